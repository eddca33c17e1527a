"""Aliases: compare-and-set, history, rollback, protection."""

from __future__ import annotations

from functools import partial

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from registry.documents import document, version_document
from registry.references import check_alias, check_name, written_under
from registry.versions import Version

from .access import Caller
from .answer_types import AliasMoves, Protection
from .answers import read_json, text_of
from .desk import Desk
from .preconditions import expected_of


class AliasRoutes:
    """`/adapters/{name}/aliases…`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def show(self, request: Request) -> Response:
        """What the alias points at; the ETag is what `If-Match` wants."""
        name, alias, caller = await self._path(request)
        caller.require("read", name)
        resolve = partial(self._desk.registry.resolve, f"{name}@{alias}")
        return _pointing(await anyio.to_thread.run_sync(resolve))

    async def set(self, request: Request) -> Response:
        """Point it at `target`; `If-Match` (or `If-None-Match: *`) says where it points now."""
        name, alias, caller = await self._path(request)
        caller.require("alias", name)
        values = await read_json(request, self._desk.settings.max_body)
        target = text_of(values, "target", longest=200)
        version = await anyio.to_thread.run_sync(
            partial(
                self._desk.registry.set_alias,
                name,
                alias,
                written_under(name, target),
                expected=expected_of(request),
                by=caller.name,
                why=text_of(values, "why"),
                may_move_protected=caller.may("protect", name),
            )
        )
        return _pointing(version)

    async def history(self, request: Request) -> Response:
        name, alias, caller = await self._path(request)
        caller.require("read", name)
        history = partial(self._desk.registry.alias_history, name, alias)
        events = await anyio.to_thread.run_sync(history)
        answer: AliasMoves = {"events": [document(event) for event in events]}
        return JSONResponse(answer)

    async def roll_back(self, request: Request) -> Response:
        name, alias, caller = await self._path(request)
        caller.require("alias", name)
        values = await read_json(request, self._desk.settings.max_body)
        version = await anyio.to_thread.run_sync(
            partial(
                self._desk.registry.rollback_alias,
                name,
                alias,
                expected=expected_of(request, must=False),
                by=caller.name,
                why=text_of(values, "why"),
                may_move_protected=caller.may("protect", name),
            )
        )
        return _pointing(version)

    async def protect(self, request: Request) -> Response:
        """PUT protects, DELETE lifts it."""
        name, alias, caller = await self._path(request)
        caller.require("protect", name)
        is_protected = request.method == "PUT"
        protect = partial(self._desk.registry.protect_alias, name, alias, by=caller.name)
        await anyio.to_thread.run_sync(partial(protect, is_protected=is_protected))
        answer: Protection = {"name": name, "alias": alias, "is_protected": is_protected}
        return JSONResponse(answer)

    async def _path(self, request: Request) -> tuple[str, str, Caller]:
        caller = await self._desk.gate.admit(request)
        name = check_name(request.path_params["name"])
        return name, check_alias(request.path_params["alias"]), caller


def _pointing(version: Version) -> JSONResponse:
    return JSONResponse(version_document(version), headers={"etag": f'"{version.digest}"'})
