"""What must stand before torch is imported."""

from __future__ import annotations

import logging

from registry.openmp import settle_spinning


def prepare() -> None:
    """Have waiting OpenMP threads go to sleep soon, and bitsandbytes keep its import notes.

    bitsandbytes warns that it found no ready-made CPU kernels; none are used.
    """
    settle_spinning()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
