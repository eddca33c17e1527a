"""Content-addressed files on the local disk: a blob's name is the sha256 of its bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .canonical import CHUNK, Progress, digest_file
from .errors import Corrupted, FileRefused

_STALE_AFTER = 3600.0  # seconds without a write until a staging folder counts as abandoned


@dataclass(frozen=True)
class Staged:
    """A file copied and hashed, not yet part of the store."""

    digest: str
    size: int
    path: Path


class LocalBlobs:
    """Blobs under one folder, two levels of fan-out: `sha256/ab/cd/abcd…`.

    A blob is written elsewhere, synced, and renamed into place, so it is whole or not there.
    Safe for several threads and processes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._staging = folder / "staging"
        self._verified: set[str] = set()
        self._lock = threading.Lock()
        self._staging.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where a blob lies, whether or not it is there."""
        name = digest.removeprefix("sha256:")
        return self._folder / "sha256" / name[:2] / name[2:4] / name

    def verified_path(self, digest: str, size: int) -> Path:
        """A blob's path once its bytes are known to match: hashed once per process.

        The size is compared every time. Raises `Corrupted`.
        """
        path = self.path(digest)
        try:
            found = path.stat().st_size
        except FileNotFoundError:
            raise Corrupted(f"blob {digest} is missing from the registry", param=digest) from None
        if found != size:
            raise Corrupted(f"blob {digest} has {found} bytes instead of {size}", param=digest)
        with self._lock:
            if digest in self._verified:
                return path
        self.check(digest)
        return path

    def check(self, digest: str, progress: Progress | None = None) -> None:
        """Hash a blob now; raises `Corrupted` if it is not what its name says."""
        try:
            found = digest_file(self.path(digest), progress)
        except OSError as failure:
            raise Corrupted(
                f"blob {digest} cannot be read: {failure.strerror}", param=digest
            ) from None
        with self._lock:
            if found == digest:
                self._verified.add(digest)
            else:
                self._verified.discard(digest)
        if found != digest:
            raise Corrupted(f"blob {digest} now hashes to {found}: its bytes changed", param=digest)

    @contextlib.contextmanager
    def stage(self) -> Iterator[Staging]:
        """A place to collect blobs; what is not published vanishes at the end."""
        folder = self._staging / uuid.uuid4().hex
        folder.mkdir()
        try:
            yield Staging(self, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self, *, older_than: float = _STALE_AFTER) -> int:
        """Remove what killed pushes left in staging; returns how many folders went."""
        swept = 0
        for folder in list(self._staging.iterdir()):
            with contextlib.suppress(OSError):  # another process may be sweeping too
                newest = max(entry.stat().st_mtime for entry in (folder, *folder.iterdir()))
                if time.time() - newest > older_than:
                    shutil.rmtree(folder)
                    swept += 1
        return swept


class Staging:
    """Blobs of one push on their way in."""

    def __init__(self, blobs: LocalBlobs, folder: Path) -> None:
        self._blobs = blobs
        self._folder = folder
        self._staged: list[Staged] = []

    def add_file(self, source: Path, progress: Progress | None = None) -> Staged:
        """Copy a file in; what is checked and stored later is this copy.

        Raises `FileRefused` if the file cannot be read or grows meanwhile.
        """
        try:
            with source.open("rb") as file:
                limit = os.fstat(file.fileno()).st_size
                return self._add(_pieces(file, source.name, limit, progress))
        except OSError as failure:
            raise FileRefused(
                f"{source.name} cannot be copied: {failure.strerror}", param=source.name
            ) from failure

    def add_bytes(self, content: bytes) -> Staged:
        """Take bytes in."""
        return self._add(iter([content]))

    def publish(self) -> None:
        """Move everything into the store.

        A blob already there is replaced by the same bytes, which heals one that was damaged.
        """
        for staged in self._staged:
            target = self._blobs.path(staged.digest)
            _make_folders(target.parent)
            os.replace(staged.path, target)  # noqa: PTH105 (one call, easy to interrupt in a test)
            _sync_folder(target.parent)

    def _add(self, pieces: Iterator[bytes]) -> Staged:
        path = self._folder / f"{len(self._staged)}"
        hasher = hashlib.sha256()
        size = 0
        # Read-only from the start: nobody edits a blob by accident.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        with os.fdopen(handle, "wb") as file:
            for piece in pieces:
                file.write(piece)
                hasher.update(piece)
                size += len(piece)
            file.flush()
            os.fsync(file.fileno())
        staged = Staged("sha256:" + hasher.hexdigest(), size, path)
        self._staged.append(staged)
        return staged


def _pieces(file: BinaryIO, name: str, limit: int, progress: Progress | None) -> Iterator[bytes]:
    done = 0
    while piece := file.read(CHUNK):
        done += len(piece)
        if done > limit:
            raise FileRefused(f"{name} grew while it was copied: push it again", param=name)
        yield piece
        if progress is not None:
            progress(f"copying {name}", done, limit)


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
