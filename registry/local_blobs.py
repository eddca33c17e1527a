"""Blobs in a folder of the local disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from .blobs import StoredBlob, missing
from .canonical import CHUNK, Progress, digest_file
from .errors import Corrupted

_Stamp = tuple[int, int]
"""A file's number and when its bytes were last written, in nanoseconds."""


class LocalBlobs:
    """Blobs under one folder, two levels of fan-out: `sha256/ab/cd/abcd…`.

    A blob is written elsewhere on the same disk, synced, and renamed into place. Its bytes are
    hashed before their first use in this process, and again once the file has changed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._verified: dict[str, _Stamp] = {}
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where a blob lies, whether or not it is there."""
        name = digest.removeprefix("sha256:")
        return self.folder / "sha256" / name[:2] / name[2:4] / name

    def find(self, digest: str) -> StoredBlob | None:
        try:
            return _stored(digest, self.path(digest).stat())
        except FileNotFoundError:
            return None

    def read(self, digest: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        found = self.find(digest)
        if found is None:
            raise missing(digest)
        return self._pieces(digest, start, found.size if stop is None else stop)

    def check(self, digest: str, progress: Progress | None = None) -> None:
        path = self.path(digest)
        try:
            stamp = _stamp(path.stat())
            found = digest_file(path, progress)
        except FileNotFoundError:
            raise missing(digest) from None
        except OSError as failure:
            raise Corrupted(
                f"blob {digest} cannot be read: {failure.strerror}", param=digest
            ) from None
        with self._lock:
            if found == digest:
                self._verified[digest] = stamp
            else:
                self._verified.pop(digest, None)
        if found != digest:
            raise Corrupted(f"blob {digest} now hashes to {found}: its bytes changed", param=digest)

    def local(self, digest: str, size: int) -> Path:
        path = self.path(digest)
        try:
            found = path.stat()
        except FileNotFoundError:
            raise missing(digest) from None
        if found.st_size != size:
            raise Corrupted(
                f"blob {digest} has {found.st_size} bytes instead of {size}", param=digest
            )
        with self._lock:
            if self._verified.get(digest) == _stamp(found):
                return path
        self.check(digest)
        return path

    def put(self, digest: str, file: Path) -> None:
        """Move a synced file in. One already there is replaced, which heals damage."""
        target = self.path(digest)
        _make_folders(target.parent)
        stamp = _stamp(file.stat())  # before, since a collection may take it as soon as it is there
        os.replace(file, target)  # noqa: PTH105 (one call, easy to interrupt in a test)
        _sync_folder(target.parent)
        with self._lock:  # verified by whoever knows the digest, from these very bytes
            self._verified[digest] = stamp

    def delete(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)
        with self._lock:
            self._verified.pop(digest, None)

    def _pieces(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        left = stop - start
        with self.path(digest).open("rb") as file:
            file.seek(start)
            while left > 0 and (piece := file.read(min(CHUNK, left))):
                left -= len(piece)
                yield piece

    def list(self) -> Iterator[StoredBlob]:
        for path in (self.folder / "sha256").glob("??/??/*"):
            try:
                yield _stored(f"sha256:{path.name}", path.stat())
            except FileNotFoundError:
                continue  # deleted while we looked


def _stored(digest: str, status: os.stat_result) -> StoredBlob:
    return StoredBlob(digest, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_ino, status.st_mtime_ns


def _make_folders(folder: Path) -> None:
    """Create a folder and make each new name durable."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
