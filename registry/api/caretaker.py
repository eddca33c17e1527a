"""What a registry does by itself, beside answering requests."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import anyio
import anyio.to_thread

from registry.embedded import Registry
from registry.errors import RegistryError
from registry.webhooks.courier import Courier
from registry.webhooks.sender import Sender

from .settings import RegistryApiSettings

logger = logging.getLogger(__name__)


class Caretaker:
    """Judges canaries and brings events to webhooks, again and again.

    Several processes may each have one over the same registry.
    """

    def __init__(self, registry: Registry, settings: RegistryApiSettings) -> None:
        self._registry = registry
        self._settings = settings
        self._courier = Courier(
            registry.catalog,
            Sender(settings.webhook_reach).send,
            first_pause=settings.webhook_pause,
        )

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Care for the registry for as long as the context lasts."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._repeat, self._decide, self._settings.decide_interval)
            tasks.start_soon(self._repeat, self._deliver, self._settings.webhook_interval)
            try:
                yield
            finally:
                self._courier.stop()
                tasks.cancel_scope.cancel()

    async def _repeat(self, work: Callable[[], None], pause: float) -> None:
        while True:
            try:
                await anyio.to_thread.run_sync(work)
            except RegistryError as failure:
                logger.warning("the registry could not be cared for: %s", failure.message)
            except Exception:
                # Whatever is wrong with one canary or webhook, the server goes on answering.
                logger.exception("unforeseen")
            await anyio.sleep(pause)

    def _deliver(self) -> None:
        self._courier.deliver()

    def _decide(self) -> None:
        for canary in self._registry.canaries.decide():
            logger.info(
                "canary of %s: %s at %d%% (%s)",
                canary.ref,
                canary.state,
                canary.weight,
                canary.verdict,
            )
