"""Several sequences' deltas as one stream, with one owner who closes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

import anyio

from server.engine.request import GenerationDelta

Deltas = AsyncGenerator[GenerationDelta, None]


class DeltaStream:
    """Runs sequences side by side and yields (index, delta) as each arrives.

    `begin`, then iterate, and `aclose` whatever happened: closing aborts what still runs, and calls
    `ended` once nothing does.
    """

    def __init__(
        self, sequences: Sequence[Deltas], ended: Callable[[], None] = lambda: None
    ) -> None:
        self._sequences = sequences
        self._ended = ended
        self._pending: dict[asyncio.Task[GenerationDelta | None], int] = {}

    async def begin(self, patience: float) -> None:
        """Wait for the first delta, at most `patience` seconds.

        Raises what the engine says at admission (QueueFull and the like), so that it can still
        become an HTTP status.
        """
        for index in range(len(self._sequences)):
            self._ask(index)
        done, _ = await asyncio.wait(
            self._pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            if (error := task.exception()) is not None:
                raise error

    async def __aiter__(self) -> AsyncIterator[tuple[int, GenerationDelta]]:
        while self._pending:
            done, _ = await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                index = self._pending.pop(task)
                delta = task.result()
                if delta is None:
                    continue
                yield index, delta
                if len(self._sequences) == 1:
                    # Nobody to wait beside: no task per token.
                    async for later in self._sequences[0]:
                        yield 0, later
                else:
                    self._ask(index)

    async def aclose(self) -> None:
        """Stop asking, and close every sequence. Safe to call twice, and while cancelled."""
        with anyio.CancelScope(shield=True):
            for task in self._pending:
                task.cancel()
            await asyncio.gather(*self._pending, return_exceptions=True)
            self._pending.clear()
            for sequence in self._sequences:
                await sequence.aclose()
            self._ended()

    def _ask(self, index: int) -> None:
        self._pending[asyncio.create_task(_next(self._sequences[index]))] = index


async def _next(sequence: Deltas) -> GenerationDelta | None:
    """The sequence's next delta, or None at its end."""
    try:
        return await anext(sequence)
    except StopAsyncIteration:
        return None
