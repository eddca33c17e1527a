"""What must stand before torch is imported."""

from __future__ import annotations

import logging
import os


def prepare() -> None:
    """Have OpenMP threads sleep while they wait, and bitsandbytes keep its import notes to itself.

    A thread that waits by spinning takes the core from the one it waits for as soon as anything
    else runs: with one of two cores busy, a step took twenty times as long. OpenMP reads the
    variable once, when torch loads it. bitsandbytes warns that it found no ready-made CPU kernels;
    none are used.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
