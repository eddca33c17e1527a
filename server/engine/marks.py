"""Points in the work that was given to a device, and whether it has come that far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch


class Mark(Protocol):
    """Everything given to the device before it was set is done once it is passed."""

    def has_passed(self) -> bool: ...

    def wait(self) -> None: ...


@dataclass(frozen=True)
class Passed:
    """On CPU work is done when the call returns."""

    def has_passed(self) -> bool:
        return True

    def wait(self) -> None:
        pass


@dataclass(frozen=True)
class CudaMark:
    """An event on a stream."""

    event: Any  # torch.cuda.Event, which torch leaves untyped

    def has_passed(self) -> bool:
        return bool(self.event.query())

    def wait(self) -> None:
        self.event.synchronize()


def set_mark(device: torch.device) -> Mark:
    """A mark after everything given to the device's current stream so far."""
    if device.type != "cuda":
        return Passed()
    return CudaMark(torch.cuda.current_stream(device).record_event())


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """On its way there, without waiting for the device."""
    if tensor.device.type == "cpu":
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
