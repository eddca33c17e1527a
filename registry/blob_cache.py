"""Local, verified copies of blobs that live elsewhere; the least recently used make room."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import Corrupted
from .local_blobs import LocalBlobs
from .staging import StagingArea

DEFAULT_LIMIT = 32 << 30  # bytes
_IN_USE = 3600.0  # seconds since its last use during which a copy is not dropped

Fetch = Callable[[], Iterator[bytes]]


class BlobCache:
    """Copies by digest in one folder, shared by threads and processes."""

    def __init__(self, folder: Path, *, limit: int = DEFAULT_LIMIT) -> None:
        self._blobs = LocalBlobs(folder)
        self._staging = StagingArea(folder / "staging")
        self._limit = limit

    def get(self, digest: str, size: int, fetch: Fetch) -> Path:
        """The copy, fetched first where it is missing or damaged.

        Raises `Corrupted` when what was fetched is not what the digest says.
        """
        try:
            path = self._blobs.local(digest, size)
        except Corrupted:
            path = self._bring(digest, size, fetch)
        with contextlib.suppress(OSError):  # says when it was last used; when written stays
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
        return path

    def _bring(self, digest: str, size: int, fetch: Fetch) -> Path:
        with self._staging.stage() as staging:
            staged = staging.add_pieces(fetch(), limit=size)
            if (staged.digest, staged.size) != (digest, size):
                raise Corrupted(
                    f"blob {digest} arrived as {staged.digest} of {staged.size} bytes", param=digest
                )
            self._make_room(size)
            staging.publish(self._blobs)
        return self._blobs.local(digest, size)

    def _make_room(self, size: int) -> None:
        copies = sorted(self._blobs.list(), key=lambda blob: self._used_at(blob.digest))
        excess = sum(blob.size for blob in copies) + size - self._limit
        for blob in copies:
            if excess <= 0:
                return
            # A use in the future is from before the clock was set back: of unknown age.
            if 0 <= time.time() - self._used_at(blob.digest) < _IN_USE:
                continue
            self._blobs.delete(blob.digest)
            excess -= blob.size

    def _used_at(self, digest: str) -> float:
        """By the system's clock; 0 of one that has gone meanwhile."""
        try:
            return self._blobs.path(digest).stat().st_atime
        except FileNotFoundError:
            return 0.0
