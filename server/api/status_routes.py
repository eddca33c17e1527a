"""What the server says about itself: probes, metrics, state, recent batches, description."""

from __future__ import annotations

import anyio.to_thread
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.metrics import Metrics

from .documents.status import Batches, Health, Ready
from .openapi import openapi_document
from .permission import may_see
from .ports import Base, Engine
from .readiness import Readiness
from .state import state_document
from .token_meter import TokenMeter


class StatusRoutes:
    """Read-only paths. None of them waits for the engine."""

    def __init__(
        self,
        *,
        engine: Engine,
        base: Base,
        readiness: Readiness,
        metrics: Metrics,
        meter: TokenMeter,
        tunes: bool = False,
    ) -> None:
        self._engine = engine
        self._base = base
        self._readiness = readiness
        self._metrics = metrics
        self._meter = meter
        self._tunes = tunes

    async def health(self, _request: Request) -> Response:
        """Restart the process when this is not 200: the engine does not come back by itself."""
        healthy = self._engine.is_healthy
        state = "ok" if healthy else "the engine has stopped"
        answer: Health = {"status": state}
        return JSONResponse(answer, status_code=200 if healthy else 503)

    async def ready(self, _request: Request) -> Response:
        reasons = self._readiness.reasons()
        body: Ready = {
            "status": "not ready" if reasons else "ready",
            "reasons": reasons,
            "warnings": self._readiness.warnings(),
        }
        return JSONResponse(body, status_code=503 if reasons else 200)

    async def metrics(self, _request: Request) -> Response:
        # Off the loop: naming the resident adapters reads the catalog.
        text = await anyio.to_thread.run_sync(self._metrics.render)
        return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def state(self, _request: Request) -> Response:
        """What the machine holds and has done, for the console."""
        document = state_document(
            self._base, self._engine.stats(), self._meter.tokens, self._readiness.warnings()
        )
        return JSONResponse(document, headers={"cache-control": "no-store"})

    async def batches(self, _request: Request) -> Response:
        """The newest steps, oldest first: tokens of each adapter that shared the step.

        Of those adapters that the request's key may name.
        """
        stats = self._engine.stats()
        batches = [
            {label: count for label, count in batch.items() if may_see(label)}
            for batch in stats.recent_batches
        ]
        answer: Batches = {"num_steps": stats.num_steps, "batches": batches}
        return JSONResponse(answer)

    async def openapi(self, _request: Request) -> Response:
        return JSONResponse(openapi_document(version=_version(), tunes=self._tunes))


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("hatstand")
    except PackageNotFoundError:
        return "0"  # run from a checkout that was never installed
