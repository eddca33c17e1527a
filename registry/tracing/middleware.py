"""The span of an HTTP request, in the trace that its caller is part of."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.route_pattern import route_pattern

from .span import Span, Tracing, entered

# Asked for all day long, or for a day at once; a server has its own registry's below /registry.
_UNENDING = ("/metrics", "/healthz", "/readyz", "/events")
UNTRACED = frozenset(f"{mount}{path}" for mount in ("", "/registry") for path in _UNENDING)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Traced:
    """ASGI middleware around everything else: names and attributes as HTTP's conventions have them.

    Nothing of a request's query, headers or body is written down. Its state has the trace's id, as
    `trace_id`.
    """

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNTRACED:
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        span = self._tracing.begin(
            method,
            Headers(scope=scope),
            {
                "http.request.method": method,
                "url.scheme": scope.get("scheme", "http"),
                "url.path": scope["path"],
            },
        )
        scope.setdefault("state", {})["trace_id"] = span.trace_id

        async def send_watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                _answered(span, message["status"])
            await send(message)

        try:
            with entered(span):
                await self._app(scope, receive, send_watched)
        except Exception as error:
            span.fail(type(error).__qualname__)
            raise
        finally:
            _route(span, scope, method)
            span.end()


def _answered(span: Span, status: int) -> None:
    span.add({"http.response.status_code": status})
    if status >= 500:
        span.fail(str(status))


def _route(span: Span, scope: Scope, method: str) -> None:
    """The route's pattern names the span."""
    if pattern := route_pattern(scope):
        span.rename(f"{method} {pattern}")
        span.add({"http.route": pattern})
