"""Short work beside what follows it on a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

Result = TypeVar("Result")


@dataclass(frozen=True)
class SideStream:
    """A stream of its own for work that has room beside what is queued after it.

    stream: None does the work in its turn. Graphs record the fork and the join.
    """

    stream: torch.cuda.Stream | None = None

    @classmethod
    def on(cls, device: torch.device) -> SideStream:
        """It goes first wherever both could be placed, since it is short."""
        if device.type != "cuda":
            return cls()
        return cls(torch.cuda.Stream(device, priority=-1))  # type: ignore[no-untyped-call]

    def run(self, work: Callable[[], Result]) -> Result:
        """Queue work behind all that is queued by now; `join` before anything reads its result."""
        if self.stream is None:
            return work()
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            return work()

    def join(self) -> None:
        """Have what is queued from now on wait for the work."""
        if self.stream is not None:
            torch.cuda.current_stream().wait_stream(self.stream)
