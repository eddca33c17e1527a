"""Webhooks: added, tried, looked at, removed. All of it wants the verb `admin`."""

from __future__ import annotations

from functools import partial

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from registry.webhooks.courier import Courier
from registry.webhooks.deliveries import read_deliveries
from registry.webhooks.documents import delivery_document, webhook_document
from registry.webhooks.hook import Webhooks

from .access import Caller
from .answer_types import Deliveries, NewWebhook, Tried, WebhookList
from .answers import read_json, text_of, texts_of
from .desk import Desk


class WebhookRoutes:
    """`/webhooks…`."""

    def __init__(self, desk: Desk, webhooks: Webhooks, courier: Courier) -> None:
        self._desk = desk
        self._webhooks = webhooks
        self._courier = courier

    async def index(self, request: Request) -> Response:
        """Every webhook, without its secret."""
        await self._admin(request)
        found = await anyio.to_thread.run_sync(self._webhooks.list)
        answer: WebhookList = {"webhooks": [webhook_document(each) for each in found]}
        return JSONResponse(answer)

    async def add(self, request: Request) -> Response:
        """A new one; its secret is in this answer and nowhere else."""
        caller = await self._admin(request)
        values = await read_json(request, self._desk.settings.max_body)
        add = partial(
            self._webhooks.add,
            text_of(values, "url"),
            texts_of(values, "kinds") or ["*"],
            texts_of(values, "patterns") or ["*"],
            by=caller.name,
        )
        made = await anyio.to_thread.run_sync(add)
        answer: NewWebhook = {**webhook_document(made), "secret": made.secret}
        return JSONResponse(answer, status_code=201)

    async def remove(self, request: Request) -> Response:
        await self._admin(request)
        await anyio.to_thread.run_sync(self._webhooks.remove, request.path_params["webhook"])
        return Response(status_code=204)

    async def enable(self, request: Request) -> Response:
        """Try again where it was given up, from the event on that did not arrive."""
        await self._admin(request)
        enable = partial(self._webhooks.enable, request.path_params["webhook"])
        return JSONResponse(webhook_document(await anyio.to_thread.run_sync(enable)))

    async def test(self, request: Request) -> Response:
        """Send it a `webhook.test` now; what came of it."""
        await self._admin(request)
        outcome = await anyio.to_thread.run_sync(self._test, request.path_params["webhook"])
        return JSONResponse(outcome)

    async def deliveries(self, request: Request) -> Response:
        """Its newest deliveries, newest first."""
        await self._admin(request)
        read = partial(read_deliveries, self._desk.registry.catalog, request.path_params["webhook"])
        found = await anyio.to_thread.run_sync(read)
        answer: Deliveries = {"deliveries": [delivery_document(each) for each in found]}
        return JSONResponse(answer)

    def _test(self, hook_id: str) -> Tried:
        outcome = self._courier.test(self._webhooks.get(hook_id))
        return {
            "status": outcome.status,
            "error": outcome.error,
            "seconds": outcome.seconds,
            "is_delivered": outcome.is_delivered,
        }

    async def _admin(self, request: Request) -> Caller:
        caller = await self._desk.gate.admit(request)
        caller.require("admin")
        return caller
