"""The packages of the `training` extra: whether they are there, quiet, and on good terms."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec

from .errors import MissingExtra

_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "safetensors",
    "matplotlib",
)

SPINS = "1000"


def prepare() -> None:
    """Set up what must stand before torch is imported; imports none of the packages.

    Raises `MissingExtra` for the first package that is not installed.
    """
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise MissingExtra(package)
    # bitsandbytes warns at import that it found no ready-made CPU kernels; it needs none.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # OpenMP threads that wait by spinning take the core from the thread that they wait for, as
    # soon as anything else runs; asleep at once, they are woken too late. On two cores a step took
    # 1.9 s with no turns, 1.2 s with SPINS and 1.0 s with 10,000; beside a busy process 2, 3 and
    # 9 s. Read once, when torch loads GNU's OpenMP.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
