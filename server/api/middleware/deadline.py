"""No request holds its sequence for ever."""

from __future__ import annotations

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.errors import RequestTimeout


class Deadline:
    """Cancels a request, and with it its sequence, after `seconds`.

    The request's state has the scope that it cancels, as `deadline`.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with anyio.move_on_after(self.seconds) as limit:
            scope.setdefault("state", {})["deadline"] = limit
            await self.app(scope, receive, send)
        if limit.cancelled_caught:
            raise RequestTimeout(
                f"The request ran longer than this server's limit of {self.seconds:g} s. "
                "Ask for fewer tokens."
            )
