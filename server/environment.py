"""What must stand before torch is imported."""

from __future__ import annotations

import logging
import os

from registry.openmp import settle_spinning

ONEDNN_SHAPES = 256  # of products, whose compiled code is kept


def prepare() -> None:
    """Have waiting OpenMP threads go to sleep soon, and bitsandbytes keep its import notes.

    oneDNN compiles each product for its number of rows and keeps 1,024 of them, which took hundreds
    of megabytes under load; whoever sets the variable decides otherwise.
    bitsandbytes warns that it found no ready-made CPU kernels; none are used.
    """
    settle_spinning()
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(ONEDNN_SHAPES))
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
