"""Compile kernels side by side, before the first of them runs.

Compiled where they are first launched they come one after the other, on one core.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from triton import knobs

THREADS = 16  # most of a compilation holds no lock; more kernels than this are seldom new


@contextmanager
def compiled_together() -> Iterator[None]:
    """Inside, kernels that are not compiled yet are noted instead of launched; on leaving, each is
    compiled once. What a launch that was left out would have written is as it was before.
    """
    noted: dict[tuple[str, str], partial[Any]] = {}

    def note(*, fn: Any, compile: Any, **_: Any) -> bool:
        kernel = partial(fn.jit_function.preload, compile["specialization_data"])
        noted[f"{fn.module}.{fn.name}", compile["key"]] = kernel
        return True  # not launched

    before, knobs.runtime.jit_cache_hook = knobs.runtime.jit_cache_hook, note
    try:
        yield
    finally:
        knobs.runtime.jit_cache_hook = before
    with ThreadPoolExecutor(THREADS, thread_name_prefix="kernels") as threads:
        for compiled in [threads.submit(kernel) for kernel in noted.values()]:
            compiled.result()
