"""What is left when no file can be opened any more."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator


def is_out_of_files(error: BaseException) -> bool:
    """Whether this process, or the system, has as many files open as it may."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


class SpareFile:
    """A file that is kept open, so that one can be had when there are no others."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._take()

    @contextlib.contextmanager
    def given_up(self) -> Iterator[None]:
        """Room for one other while the context lasts."""
        self.close()
        try:
            yield
        finally:
            self._take()

    def close(self) -> None:
        if self._number is not None:
            os.close(self._number)
            self._number = None

    def _take(self) -> None:
        with contextlib.suppress(OSError):  # somebody was faster: there is none until the next time
            self._number = os.open(os.devnull, os.O_RDONLY)
