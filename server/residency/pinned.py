"""Page-locked host memory, taken from the system once."""

from __future__ import annotations

import queue
import threading
import weakref
from bisect import insort
from dataclasses import dataclass

import torch

SLAB_BYTES = 2**30  # torch rounds what it locks up to a power of two
ALIGNMENT = 256


@dataclass(frozen=True, eq=False)
class Extent:
    """A stretch of the memory, its holder's for as long as it is referred to."""

    data: torch.Tensor  # [bytes] uint8


class PinnedMemory:
    """Hands out stretches, first fit; called by any thread.

    Asking the driver for page-locked memory stalls whoever launches kernels meanwhile, for tens of
    milliseconds; so all of it is taken at the start. What does not fit is locked on demand.
    """

    def __init__(self, capacity: int, *, pin: bool) -> None:
        self.pin = pin
        num_slabs = -(-capacity // SLAB_BYTES) if pin else 0
        self._slabs = [self._take(SLAB_BYTES) for _ in range(num_slabs)]
        self._free = [(slab, 0, SLAB_BYTES) for slab in range(num_slabs)]  # (slab, start, end)
        self._lock = threading.Lock()
        # Given back by whichever thread drops the last reference, be it amid an allocation.
        self._returned: queue.SimpleQueue[tuple[int, int, int]] = queue.SimpleQueue()

    def allocate(self, nbytes: int) -> Extent:
        """A stretch that is given back when nobody refers to it any longer."""
        size = -(-nbytes // ALIGNMENT) * ALIGNMENT
        with self._lock:
            while not self._returned.empty():
                self._join(*self._returned.get())
            place = self._first_fit(size)
        if place is None:
            return Extent(self._take(nbytes))
        slab, start = place
        extent = Extent(self._slabs[slab][start : start + nbytes])
        weakref.finalize(extent, self._returned.put, (slab, start, start + size))
        return extent

    def _take(self, nbytes: int) -> torch.Tensor:
        return torch.empty(nbytes, dtype=torch.uint8, pin_memory=self.pin)

    def _first_fit(self, size: int) -> tuple[int, int] | None:
        for index, (slab, start, end) in enumerate(self._free):
            if end - start >= size:
                del self._free[index]
                if end - start > size:
                    self._free.insert(index, (slab, start + size, end))
                return slab, start
        return None

    def _join(self, slab: int, start: int, end: int) -> None:
        """Take a stretch back, together with the free ones before and after it."""
        for other in [free for free in self._free if free[0] == slab]:
            if other[2] == start or other[1] == end:
                self._free.remove(other)
                start, end = min(start, other[1]), max(end, other[2])
        insort(self._free, (slab, start, end))
