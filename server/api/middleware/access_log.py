"""One log line and one count for each request."""

from __future__ import annotations

import logging
import time
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.logs import fields
from registry.route_pattern import route_pattern
from server.metrics import Metrics

logger = logging.getLogger(__name__)

GONE = 499  # nginx's number for a client that left before it was answered
PROBED = ("/metrics", "/healthz", "/readyz")  # asked for all day long: logged for debugging only


class AccessLog:
    """Logs what was asked, by whom, and what it came to; counts requests by route and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = GONE

        async def send_watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_watched)
        finally:
            self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        self.metrics.requests.labels(route=route_pattern(scope) or "none", status=str(status)).inc()
        state = scope.get("state", {})
        record = state.get("job_record")
        generated = {} if record is None else record.fields()
        path = quote(scope["path"])  # a decoded path may hold line breaks
        logger.log(
            logging.DEBUG if scope["path"] in PROBED else logging.INFO,
            "%s %s %d %.3fs adapter=%s tenant=%s id=%s",
            scope["method"],
            path,
            status,
            seconds,
            generated.get("adapter", "-"),
            state.get("tenant", "-"),
            state.get("request_id", "-"),
            extra=fields(
                method=scope["method"],
                path=path,
                status=status,
                seconds=round(seconds, 6),
                request_id=state.get("request_id"),
                trace_id=state.get("trace_id"),
                tenant=state.get("tenant"),
                **generated,
            ),
        )
