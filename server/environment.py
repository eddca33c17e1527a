"""What must stand before torch is imported."""

from __future__ import annotations

import logging
import os

SPINS = "1000"


def prepare() -> None:
    """Have waiting OpenMP threads go to sleep soon, and bitsandbytes keep its import notes.

    A thread that waits by spinning takes the core from the one it waits for as soon as anything
    else runs; one that sleeps at once is woken too late when nothing else does. On two cores a
    training step took 1.9 s with no turns, 1.2 s with SPINS and 1.0 s with 10,000; beside a busy
    process 2, 3 and 9 s. GNU's OpenMP reads the variable once, when torch loads it. bitsandbytes
    warns that it found no ready-made CPU kernels; none are used.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
