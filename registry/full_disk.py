"""A disk that has no room is told apart from a file that cannot be read."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from .errors import StoreFull

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


def is_full(failure: OSError) -> bool:
    """Whether the system refused for want of room on a disk, or within somebody's quota."""
    return failure.errno in _NO_ROOM


@contextlib.contextmanager
def full_disks_told() -> Iterator[None]:
    """Raise `StoreFull` where what happens inside finds no room."""
    try:
        yield
    except OSError as failure:
        if not is_full(failure):
            raise
        raise StoreFull(
            "the registry's disk is full, and nothing was stored: "
            "`registry gc` removes what no version needs"
        ) from failure
