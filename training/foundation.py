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
    # soon as anything else runs: with one of two cores busy, a step took 5 to 30 seconds instead
    # of 1.4. Read once, when torch loads its OpenMP library.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
