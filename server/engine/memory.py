"""What memory there is, and how the process holds it."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_FROM_HEAP = 32 * 2**20  # bytes; the most glibc accepts
KEPT_WHEN_FREE = 2**30
HOLES_LAST = 60.0  # seconds


def keep_freed_memory() -> None:
    """Have glibc keep what tensors free instead of returning it to the system.

    Every step frees and needs the same few megabytes again; taken from the system each time, they
    cost a page fault per 4 KiB. Does nothing where the C library is another.
    """
    mallopt = _from_libc("mallopt")
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_FROM_HEAP)
        mallopt(M_TRIM_THRESHOLD, KEPT_WHEN_FREE)


def close_holes() -> None:
    """Give the system every whole page that nothing uses; where glibc is not, do nothing."""
    trim = _from_libc("malloc_trim")
    if trim is not None:
        trim(0)


@dataclass
class Holes:
    """Gives back, once a minute, what the heap holds free.

    oneDNN compiles products for new numbers of rows all the time and forgets others. What it keeps
    comes to lie between tensors that are freed, and the heap grows though no more of it is used.
    """

    close: Callable[[], None] = close_holes
    clock: Callable[[], float] = time.monotonic
    _closed: float = field(init=False)

    def __post_init__(self) -> None:
        self._closed = self.clock()

    def look(self) -> None:
        """Call it between two steps."""
        now = self.clock()
        if now - self._closed >= HOLES_LAST:
            self._closed = now
            self.close()


def _from_libc(name: str) -> Callable[..., int] | None:
    """A function that glibc has, on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return found


def physical_memory() -> int:
    """Bytes of this machine's memory, in use or not."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available_memory(device: torch.device) -> int:
    """Bytes of a CUDA device that nobody holds yet."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)
