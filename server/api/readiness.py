"""Whether this server should get traffic, and if not, why."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence

import anyio

from server.errors import ServingError

from .models import Models
from .ports import Engine

logger = logging.getLogger(__name__)

PIN_RETRY = 5.0  # seconds between attempts at a pinned adapter that did not load


class Readiness:
    """Draining or not, how much is in flight, and which pinned adapters are still missing."""

    def __init__(
        self,
        engine: Engine,
        pins: Sequence[str],
        *,
        warnings: Callable[[], list[str]] = lambda: [],
    ) -> None:
        self.is_leaving = False
        self.is_draining = False
        self.warnings = warnings  # what does not keep traffic away, but should be known
        self._in_flight: set[anyio.CancelScope] = set()
        self._engine = engine
        self._missing = dict.fromkeys(pins, "not loaded yet")
        self._pinned: dict[str, str] = {}  # digest → the reference it was pinned by

    @property
    def num_in_flight(self) -> int:
        """Requests that are being generated for."""
        return len(self._in_flight)

    @contextlib.contextmanager
    def counting(self, request: anyio.CancelScope) -> Iterator[None]:
        """Count a request as in flight while the context lasts."""
        self._in_flight.add(request)
        try:
            yield
        finally:
            self._in_flight.discard(request)

    @property
    def has_failed(self) -> bool:
        """Whether the engine has stopped by itself: it does not come back in this process."""
        return not self._engine.is_healthy

    def leave(self) -> None:
        """Ask for no more traffic, and still take what comes."""
        self.is_leaving = True

    def begin_drain(self) -> None:
        """Take nothing new from now on."""
        self.is_leaving = self.is_draining = True

    def cut(self) -> None:
        """Cancel what is still in flight: the drain's deadline has passed."""
        for request in self._in_flight:
            request.cancel()

    def reasons(self) -> list[str]:
        """Why not to send traffic; empty when ready."""
        if self.has_failed:
            return ["the engine has stopped"]
        reasons = ["the server is draining"] if self.is_leaving else []
        resident = {adapter.digest for adapter in self._engine.stats().resident}
        reasons += [f"pinned adapter {name}: {why}" for name, why in self._missing.items()]
        reasons += [
            f"pinned adapter {name}: not resident"
            for digest, name in self._pinned.items()
            if digest not in resident
        ]
        return reasons

    def forget_pin(self, digest: str) -> None:
        """An operator unloaded it: it is no longer asked for."""
        self._pinned.pop(digest, None)

    async def load_pins(self, models: Models) -> None:
        """Load every pinned adapter, trying again until it works; runs beside the server."""
        while self._missing:
            for reference in list(self._missing):
                await self._load_pin(reference, models)
            if self._missing:
                await asyncio.sleep(PIN_RETRY)

    async def _load_pin(self, reference: str, models: Models) -> None:
        try:
            model = await models.find(reference)
            if model.adapter is not None:
                await self._engine.load_adapter(model.adapter, pin=True)
                self._pinned[model.adapter.digest] = reference
            del self._missing[reference]
        except Exception as error:
            # Whatever went wrong, the server stays up, not ready, and says why.
            self._missing[reference] = str(error)
            known = isinstance(error, ServingError)
            logger.warning("pin %s: %s", reference, error, exc_info=None if known else error)
