"""Runs a request's inputs on the engine, not more at once than any request may."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from server.api.ports import Engine
from server.engine.request import FinishReason, GenerationDelta, GenerationRequest
from server.errors import Unavailable
from server.metrics import Metrics


class Embedder:
    """most: inputs of one request that are in the engine at once; the others wait outside, so that
    a long list neither fills the queue nor is refused by it.
    """

    def __init__(self, *, engine: Engine, metrics: Metrics, most: int) -> None:
        self._engine = engine
        self._metrics = metrics
        self._most = most

    async def embed(self, sequences: tuple[GenerationRequest, ...]) -> list[GenerationDelta]:
        """What came of each, in order. Raises what the engine says of the first that fails; the
        others then end, as they do when this is cancelled.
        """
        results: dict[int, GenerationDelta] = {}
        waiting = iter(enumerate(sequences))
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(self._most, len(sequences))):
                    tasks.create_task(self._work(waiting, results))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        return [results[index] for index in range(len(sequences))]

    async def _work(
        self,
        waiting: Iterator[tuple[int, GenerationRequest]],
        results: dict[int, GenerationDelta],
    ) -> None:
        for index, sequence in waiting:
            results[index] = await self._run(sequence)

    async def _run(self, sequence: GenerationRequest) -> GenerationDelta:
        reason: FinishReason = "abort"
        found: GenerationDelta | None = None
        try:
            async with contextlib.aclosing(self._engine.generate(sequence)) as deltas:
                async for delta in deltas:
                    reason = delta.finish_reason or reason
                    found = delta if delta.embedding else found
            if found is None:
                raise Unavailable("The server stopped before the embedding was finished.")
            return found
        finally:
            self._metrics.finished.labels(reason=reason).inc()
