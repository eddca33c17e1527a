"""Writes what callers asked for into the audit log."""

from __future__ import annotations

import logging

import anyio.to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.audit import AuditLog
from registry.errors import RegistryError

logger = logging.getLogger(__name__)

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class AuditTrail:
    """ASGI middleware: one entry per request that would change something.

    It is there before the answer is: nobody learns of a change that the log does not know. Pieces
    of uploads, leases and servers' reports are left out: they change nothing that anybody sees. So
    are callers whom we do not know, who could fill the log.
    """

    def __init__(self, app: ASGIApp, log: AuditLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _READING:
            await self._app(scope, receive, send)
            return

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._note(scope, message["status"])
            await send(message)

        await self._app(scope, receive, watch)

    async def _note(self, scope: Scope, status: int) -> None:
        caller = scope.get("state", {}).get("caller")
        if caller is not None and not _is_small(scope):
            await anyio.to_thread.run_sync(self._write, scope, caller, status)

    def _write(self, scope: Scope, caller: str, status: int) -> None:
        client = scope.get("client")
        try:
            self._log.write(
                by=caller,
                address=client[0] if client else "",
                action=f"{scope['method']} {_path(scope)}",
                status=status,
            )
        except RegistryError as failure:
            logger.error("the audit log could not be written: %s", failure.message)


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _is_small(scope: Scope) -> bool:
    path = _path(scope)
    return path.startswith(("/blobs/uploads", "/leases")) or path.endswith("/canary/reports")
