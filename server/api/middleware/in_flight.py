"""Counts generations under way, and turns new ones away while the server drains."""

from __future__ import annotations

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.readiness import Readiness
from server.errors import Unavailable


class InFlight:
    """Around the routes that generate: what has begun finishes, nothing new begins."""

    def __init__(self, app: ASGIApp, readiness: Readiness, retry_after: float) -> None:
        self.app = app
        self.readiness = readiness
        self.retry_after = retry_after  # seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.readiness.is_draining:
            raise Unavailable(
                "The server is shutting down: it finishes what it has and takes nothing new.",
                retry_after=self.retry_after,
            )
        with anyio.CancelScope() as scope_of_request, self.readiness.counting(scope_of_request):
            await self.app(scope, receive, send)
        if scope_of_request.cancelled_caught:
            raise Unavailable("The server shut down before this generation was finished.")
