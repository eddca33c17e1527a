"""What memory there is, and how the process holds it."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_FROM_HEAP = 32 * 2**20  # bytes; the most glibc accepts
KEPT_WHEN_FREE = 2**30


def keep_freed_memory() -> None:
    """Have glibc keep what tensors free instead of returning it to the system.

    Every step frees and needs the same few megabytes again; taken from the system each time, they
    cost a page fault per 4 KiB. Does nothing where the C library is another.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_FROM_HEAP)
        mallopt(M_TRIM_THRESHOLD, KEPT_WHEN_FREE)


def physical_memory() -> int:
    """Bytes of this machine's memory, in use or not."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available_memory(device: torch.device) -> int:
    """Bytes of a CUDA device that nobody holds yet."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free)
