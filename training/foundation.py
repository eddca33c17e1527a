"""The packages of the `training` extra: whether they are there, quiet, and on good terms."""

from __future__ import annotations

import logging
from importlib.util import find_spec

from registry.openmp import settle_spinning

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
    # Where DeepSpeed is installed, accelerate imports it into every run, and without a GPU it says
    # so on standard output. Its import sets its logger's level and handlers, and leaves filters.
    logging.getLogger("DeepSpeed").addFilter(_is_no_choice_of_device)
    settle_spinning()


def _is_no_choice_of_device(record: logging.LogRecord) -> bool:
    """Everything but what DeepSpeed says when it takes the CPU for want of anything else."""
    return not str(record.msg).startswith("Setting accelerator to")
