"""Routes that are as GET /openapi.json describes them."""

from __future__ import annotations

import difflib
from urllib.parse import parse_qsl

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from registry.errors import InvalidRequest

from .openapi_operations import queries_of


class UnknownQuery(InvalidRequest):
    """A query parameter that the operation does not take; the message names the nearest one."""

    code = "unknown_parameter"


class DescribedRoute(Route):
    """Refuses query parameters that are not listed for it: nothing is left out in silence."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "get" if scope["method"] == "HEAD" else scope["method"].lower()
        known = queries_of(self.path, method)
        if known is not None:
            for name, _ in parse_qsl(scope["query_string"].decode("latin-1"), True):
                if name not in known:
                    raise UnknownQuery(_unknown(name, known), param=name[:80])
        await super().handle(scope, receive, send)


def _unknown(name: str, known: list[str]) -> str:
    message = f"there is no query parameter {name[:80]!r} here"
    near = difflib.get_close_matches(name, known, n=1)
    return f"{message}. Did you mean {near[0]!r}?" if near else message
