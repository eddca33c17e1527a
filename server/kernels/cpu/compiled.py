"""Compile once and keep the result on disk, so that the next start takes it from there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from registry.homes import kernel_cache


def entry(function: Callable[..., None]) -> Any:
    """Compile what Python calls: without the interpreter's lock, kept on disk.

    numba looks for changes in a function's own file only, so the folder's name is a digest of all
    of these files. Where nothing can be written, each start compiles anew.
    """
    folder = kernel_cache() / _digest()
    before = numba.config.CACHE_DIR
    try:
        folder.mkdir(parents=True, exist_ok=True)
        numba.config.CACHE_DIR = str(folder)
        return numba.njit(nogil=True, cache=True)(function)
    except (OSError, RuntimeError):
        return numba.njit(nogil=True)(function)
    finally:
        numba.config.CACHE_DIR = before


def _digest() -> str:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    contents = b"".join(source.read_bytes() for source in sources)
    return hashlib.sha256(contents + numba.__version__.encode()).hexdigest()[:16]
