"""How many OpenMP threads torch gives the thread that calls it."""

from __future__ import annotations

import torch


def limit_threads(count: int) -> None:
    """Give the calling thread, and no other that runs already, `count` torch threads.

    torch keeps the number twice: for each thread, and as the default that a thread takes over the
    first time it asks. Setting writes both, but does not count as asking; so a thread that sets
    first would be overruled by whatever another thread set meanwhile.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)
