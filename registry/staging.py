"""Bytes on their way into a store: copied, hashed and synced before anybody may see them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from .blobs import Blobs
from .canonical import CHUNK, Progress
from .errors import FileRefused, TooLarge
from .full_disk import full_disks_told, is_full
from .hashing import FollowingHash, hashing_thread

_SYNCS = 4  # files synced at once: small ones do not wait for a large one
_STALE_AFTER = 3600.0  # seconds without a write until a staging folder counts as abandoned


@dataclass(frozen=True)
class Staged:
    """A file copied in, not yet part of the store; it is hashed and synced beside other work."""

    size: int
    path: Path
    hashing: Future[str]
    syncing: Future[None]

    @classmethod
    def known(cls, digest: str, size: int, path: Path) -> Staged:
        """A file that stays where it is, and whose digest is known already."""
        hashing, syncing = Future[str](), Future[None]()
        hashing.set_result(digest)
        syncing.set_result(None)
        return cls(size, path, hashing, syncing)

    @property
    def digest(self) -> str:
        """The digest of the copy, once it is known."""
        return self.hashing.result()


class StagingArea:
    """A folder in which pushes collect their blobs, each in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def stage(self) -> Iterator[Staging]:
        """A place to collect blobs; what is not published vanishes at the end.

        Raises `StoreFull` where the disk has no room.
        """
        with (
            full_disks_told(),
            self.folder() as folder,
            hashing_thread() as hasher,
            _syncing_threads() as syncer,
        ):
            yield Staging(folder, hasher, syncer)

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """An empty folder that vanishes at the end; if this process is killed, with a later one."""
        self.sweep()
        with contextlib.ExitStack() as holding:
            folder = self._new_folder(holding)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _new_folder(self, holding: contextlib.ExitStack) -> Path:
        """One that is held. A sweep whose clock is ahead may take some before they are."""
        while True:
            folder = self._folder / uuid.uuid4().hex
            folder.mkdir()
            with contextlib.suppress(FileNotFoundError):
                if holding.enter_context(_held(folder)) and folder.exists():
                    return folder

    def sweep(self, *, older_than: float = _STALE_AFTER) -> int:
        """Remove what killed pushes left; returns how many folders went. Times are seconds.

        A folder in use is held by its process, so a clock that jumps ahead takes none away.
        """
        swept = 0
        for folder in list(self._folder.iterdir()):
            with contextlib.suppress(OSError):  # another process may be sweeping too
                newest = max(entry.stat().st_mtime for entry in (folder, *folder.iterdir()))
                if time.time() - newest > older_than:
                    with _held(folder) as is_abandoned:
                        if is_abandoned:
                            shutil.rmtree(folder)
                            swept += 1
        return swept


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Hold a folder against others, if nobody else does; the system lets go when a process ends."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_mine = True
    except BlockingIOError:
        is_mine = False
    except OSError:  # NFS locks no folder: there the age alone says
        is_mine = True
    try:
        yield is_mine
    finally:
        os.close(handle)


class Staging:
    """Blobs of one push on their way in."""

    def __init__(self, folder: Path, hasher: Executor, syncer: Executor) -> None:
        self._folder = folder
        self._hasher = hasher
        self._syncer = syncer
        self._staged: list[Staged] = []

    def add_file(self, source: Path, progress: Progress | None = None) -> Staged:
        """Copy a file in; what is checked and stored later is this copy.

        Raises `FileRefused` if the file cannot be read or grows meanwhile.
        """
        try:
            with source.open("rb", buffering=0) as file:
                limit = os.fstat(file.fileno()).st_size
                return self._add(_pieces(file, source.name, limit, progress))
        except OSError as failure:
            if is_full(failure):
                raise
            raise FileRefused(
                f"{source.name} cannot be copied: {failure.strerror}", param=source.name
            ) from failure

    def add_bytes(self, content: bytes) -> Staged:
        """Take bytes in."""
        return self._add(iter([content]))

    def add_pieces(self, pieces: Iterator[bytes], *, limit: int) -> Staged:
        """Take a stream in; raises `TooLarge` when it goes on beyond `limit` bytes."""
        return self._add(_bounded(pieces, limit))

    def publish(self, blobs: Blobs) -> None:
        """Hand everything over to the store, once it would survive a power cut."""
        for staged in self._staged:
            staged.syncing.result()
            blobs.put(staged.digest, staged.path)

    def _add(self, pieces: Iterator[bytes] | Iterator[memoryview]) -> Staged:
        path = self._folder / f"{len(self._staged)}"
        hashed = FollowingHash(path, self._hasher)
        size = 0
        # Read-only from the start: nobody edits a blob by accident.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        with FileIO(handle, "w") as file:
            for piece in pieces:
                write_all(file, piece)
                size += len(piece)
                hashed.follow(size)
        staged = Staged(size, path, hashed.digest(), self._syncer.submit(_sync, path))
        self._staged.append(staged)
        return staged


def _syncing_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_SYNCS, thread_name_prefix="sync")


def _sync(path: Path) -> None:
    """Make a copy durable."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_all(file: FileIO, piece: bytes | memoryview) -> None:
    """Write every byte, in as many calls as the system wants."""
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) :]


def _pieces(file: FileIO, name: str, limit: int, progress: Progress | None) -> Iterator[memoryview]:
    """The file in pieces, each good until the next is asked for."""
    buffer = memoryview(bytearray(CHUNK))
    done = 0
    while count := file.readinto(buffer):
        done += count
        if done > limit:
            raise FileRefused(f"{name} grew while it was copied: push it again", param=name)
        yield buffer[:count]
        if progress is not None:
            progress(f"copying {name}", done, limit)


def _bounded(pieces: Iterator[bytes], limit: int) -> Iterator[bytes]:
    done = 0
    for piece in pieces:
        done += len(piece)
        if done > limit:
            raise TooLarge(f"more than the {limit} bytes that were announced arrived")
        yield piece
