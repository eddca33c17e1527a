"""One server in one replica of Ray Serve."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator

from ray import serve
from starlette.applications import Starlette

from server.assembly import assemble
from server.errors import EngineStopped
from server.settings import Settings

from .in_place import Head, InPlace, Question

logger = logging.getLogger(__name__)

LOOK = 0.1  # seconds between looks whether pinned adapters are there
ADAPTER, REPLICA = b"x-hatstand-adapter", b"x-hatstand-replica"


class Engine:
    """Answers questions, and tells Serve which adapters it has answered with.

    As many as there are slots, the least recently used forgotten first: the engine does the same,
    and loads them itself, so what Serve calls loading is only noting a name.
    """

    async def __init__(self, settings: Settings, max_slots: int) -> None:  # type: ignore[misc]
        server = await asyncio.to_thread(assemble, settings, _log)
        app = server.config.app
        assert isinstance(app, Starlette)
        self._site = InPlace(app)
        self._note = serve.multiplexed(max_num_models_per_replica=max_slots)(_named)
        await self._site.start()
        while await self._site.status("/readyz") != 200:
            await asyncio.sleep(LOOK)

    async def __del__(self) -> None:
        await self._site.stop()

    async def check_health(self) -> None:
        """Called by Serve, which starts a replica again when this raises."""
        if await self._site.status("/healthz") != 200:
            raise EngineStopped("The engine stopped after an error, which the log tells.")

    async def answer(self, question: Question) -> AsyncGenerator[Head | bytes, None]:
        """The answer's head, then pieces of its body."""
        async with contextlib.aclosing(self._site.ask(question)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Head):
                    yield await self._noted(piece)
                else:
                    yield piece

    async def _noted(self, head: Head) -> Head:
        """Note the adapter that answers; tell the client which replica it is."""
        model = serve.get_multiplexed_model_id()
        if model and b"@" in dict(head.headers).get(ADAPTER, b""):
            await self._note(model)
        replica = serve.get_replica_context().replica_id.unique_id
        return Head(head.status, [*head.headers, (REPLICA, replica.encode())])


def _log(stage: str, done: int, _total: int) -> None:
    if done == 0:
        logger.info("%s", stage)


async def _named(model: str) -> str:
    """What is held is known by name only."""
    return model
