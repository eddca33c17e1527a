"""The packages of the `training` extra: whether they are there, and quiet."""

from __future__ import annotations

import logging
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


def require() -> None:
    """Raise `MissingExtra` for the first package that is not installed; imports none of them."""
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise MissingExtra(package)
    # bitsandbytes warns at import that it found no ready-made CPU kernels; it needs none.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
