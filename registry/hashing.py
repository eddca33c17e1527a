"""Hashing a file while it is still being written: hashlib lets go of the interpreter's lock."""

from __future__ import annotations

import hashlib
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from mmap import ACCESS_READ, mmap
from pathlib import Path


def hashing_thread() -> ThreadPoolExecutor:
    """The thread of a `FollowingHash`; as a context it ends when all is hashed."""
    return ThreadPoolExecutor(1, thread_name_prefix="hash")


class FollowingHash:
    """The sha256 of a growing file, read back from it in `thread`, an executor of one thread.

    What is hashed is what was written, and nothing waits for it in memory.
    """

    def __init__(self, path: Path, thread: Executor) -> None:
        self._path = path
        self._thread = thread
        self._sha256 = hashlib.sha256()
        self._done = 0
        self._end = 0

    def follow(self, end: int) -> None:
        """Say that the file is final up to byte `end`."""
        self._end = end
        self._thread.submit(self._catch_up)

    def digest(self) -> Future[str]:
        """`sha256:` and 64 hex digits of all that was followed; raises what reading raised."""
        return self._thread.submit(self._finish)

    def _catch_up(self) -> None:
        """Hash in one call whatever has been written meanwhile.

        Calls for small pieces would have every thread wait for the interpreter's lock all the time.
        Mapped anew each time, so that an abandoned file leaves nothing open.
        """
        end = self._end
        if end == self._done:
            return
        with (
            self._path.open("rb") as file,
            mmap(file.fileno(), end, access=ACCESS_READ) as mapped,
            memoryview(mapped) as content,
        ):
            self._sha256.update(content[self._done :])
        self._done = end

    def _finish(self) -> str:
        self._catch_up()  # where an earlier stretch failed, it fails again
        return "sha256:" + self._sha256.hexdigest()
