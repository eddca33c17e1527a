"""Canaries: begun, watched, advanced, aborted, and reported on by servers."""

from __future__ import annotations

from functools import partial

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from registry.canary.documents import canary_document, standing_document
from registry.canary.record import Canary
from registry.canary.reports import Report
from registry.canary.rules import Rules
from registry.errors import InvalidRequest
from registry.keys import Verb
from registry.references import check_alias, check_name

from .access import Caller
from .answer_types import Canaries
from .answers import read_json, text_of
from .desk import Desk
from .preconditions import expected_of


class CanaryRoutes:
    """`/adapters/{name}/aliases/{alias}/canary…` and `/canaries`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._canaries = desk.registry.canaries

    async def index(self, request: Request) -> Response:
        """Every canary that runs."""
        caller = await self._desk.gate.admit(request)
        caller.require("read")
        running = await anyio.to_thread.run_sync(self._canaries.running)
        shown = [canary_document(each) for each in running if caller.may("read", each.name)]
        answer: Canaries = {"canaries": shown}
        return JSONResponse(answer)

    async def show(self, request: Request) -> Response:
        """How the newest one stands or ended; the ETag is what `If-Match` wants."""
        name, alias, _ = await self._path(request, "read")
        standing = await anyio.to_thread.run_sync(self._canaries.standing, name, alias)
        return JSONResponse(standing_document(standing), headers=_etag(standing.canary))

    async def start(self, request: Request) -> Response:
        """Try `target` by `rules`; `If-Match` says where the alias points now."""
        name, alias, caller = await self._path(request, "alias")
        expected = expected_of(request)
        values = await read_json(request, self._desk.settings.max_body)
        rules = values.get("rules", {})
        if not isinstance(rules, dict):
            raise InvalidRequest("rules must be a JSON object", param="rules")
        start = partial(
            self._canaries.start,
            name,
            alias,
            text_of(values, "target", longest=200),
            Rules.read(rules),
            expected=expected,
            by=caller.name,
            why=text_of(values, "why"),
            may_move_protected=caller.may("protect", name),
        )
        return _answer(await anyio.to_thread.run_sync(start), 201)

    async def advance(self, request: Request) -> Response:
        """Begin the next step now; `If-Match` takes the canary's ETag."""
        name, alias, caller = await self._path(request, "alias")
        expected = expected_of(request)
        values = await read_json(request, self._desk.settings.max_body)
        advance = partial(
            self._canaries.advance,
            name,
            alias,
            expected=expected,
            by=caller.name,
            why=text_of(values, "why"),
            may_move_protected=caller.may("protect", name),
        )
        return _answer(await anyio.to_thread.run_sync(advance))

    async def abort(self, request: Request) -> Response:
        """Give all requests back. In an emergency, without a precondition."""
        name, alias, caller = await self._path(request, "alias")
        abort = partial(
            self._canaries.abort,
            name,
            alias,
            expected=expected_of(request, must=False),
            by=caller.name,
            why=request.query_params.get("why", "")[:2000],
            may_move_protected=caller.may("protect", name),
        )
        return _answer(await anyio.to_thread.run_sync(abort))

    async def report(self, request: Request) -> Response:
        """A server's word on how the requests of one step went, in place of its last."""
        name, alias, _ = await self._path(request, "report")
        values = await read_json(request, self._desk.settings.max_body)
        report = partial(self._canaries.report, name, alias, Report.read(values))
        await anyio.to_thread.run_sync(report)
        return Response(status_code=204)

    async def _path(self, request: Request, verb: Verb) -> tuple[str, str, Caller]:
        caller = await self._desk.gate.admit(request)
        name = check_name(request.path_params["name"])
        caller.require(verb, name)
        return name, check_alias(request.path_params["alias"]), caller


def _answer(canary: Canary, status: int = 200) -> JSONResponse:
    return JSONResponse(canary_document(canary), status, headers=_etag(canary))


def _etag(canary: Canary) -> dict[str, str]:
    return {"etag": f'"{canary.etag}"'}
