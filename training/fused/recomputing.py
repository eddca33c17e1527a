"""Whether a layer's forward pass runs for the second time, to find what the way back needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass


@dataclass
class Recomputing:
    """`now` is true while a checkpointed layer is computed again in the backward pass."""

    now: bool = False

    def contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """What torch's checkpointing runs the first and the second pass in (its `context_fn`)."""
        return nullcontext(), self._again()

    @contextmanager
    def _again(self) -> Iterator[None]:
        self.now = True
        try:
            yield
        finally:
            self.now = False
