"""Which errors of a device end one request, and which end the engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from server.errors import StartupError


def device_survives(error: RuntimeError) -> bool:
    """Whether the device works on after this: it had no memory left, or refused a single call.

    After an error inside a kernel (an illegal address, a failed assertion) every later call fails
    too, until the process ends. Anything that is not the device's own error is a bug of ours.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    if not isinstance(error, torch.AcceleratorError) or not torch.cuda.is_available():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


@contextmanager
def memory_for_start() -> Iterator[None]:
    """Say in one sentence that the device, or page-locked host memory, does not suffice."""
    try:
        yield
    except RuntimeError as error:
        if not device_survives(error):
            raise
        raise StartupError(
            f"the engine does not fit into the memory that is free: {error}\n"
            "Give less --kv-memory, --host-memory, --max-slots or --max-rank, or end what else "
            "uses the device; `hatstand plan` says what takes how much."
        ) from error
