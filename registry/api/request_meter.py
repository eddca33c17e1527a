"""Counts every request, how long its answer took, and the bytes of both."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import Metrics

_UNANSWERED = 499  # the caller left first
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestMeter:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, begun = _UNANSWERED, time.perf_counter()

        async def hear() -> Message:
            message = await receive()
            self._metrics.count_bytes(received=len(message.get("body", b"")))
            return message

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            self._metrics.count_bytes(sent=len(message.get("body", b"")))
            await send(message)

        try:
            await self._app(scope, hear, tell)
        finally:
            seconds = time.perf_counter() - begun
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.count_request(_pattern(scope), method, status, seconds)


def _pattern(scope: Scope) -> str:
    """The route's path as it was declared: names in paths would be labels without end."""
    return getattr(scope.get("route"), "path", "none")
