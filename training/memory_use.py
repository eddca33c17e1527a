"""Memory: the most that this process has held, and giving back what it no longer needs."""

from __future__ import annotations

import gc
import sys


def peak_memory() -> int:
    """Bytes: of the GPU where torch has one in use, else of the process (0 where nobody counts).

    Imports nothing heavy: torch is asked only where it has been imported.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ModuleNotFoundError:  # not on Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes, but on macOS bytes


def free_memory() -> None:
    """Give back what a model took that nobody holds any more, before the next one is loaded."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
