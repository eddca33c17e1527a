"""A device without free memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

LARGEST, SMALLEST = 1 << 34, 1 << 20  # bytes of a piece that is taken away


@contextmanager
def no_memory_left() -> Iterator[None]:
    """Take all of the device's memory that is free, also what torch keeps for later."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    taken, size = [], LARGEST
    while size >= SMALLEST:
        try:
            taken.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            size //= 2
    yield
    taken.clear()
    torch.cuda.empty_cache()
