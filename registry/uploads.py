"""Uploads that may be cut and gone on with, until their digest is right."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from .blobs import Blobs
from .canonical import digest_file
from .errors import FileRefused, TooLarge, UploadConflict, UploadNotFound
from .full_disk import full_disks_told
from .staging import write_all

if TYPE_CHECKING:
    from .embedded import Registry

_ID = re.compile(r"[0-9a-f]{32}")
STALE_AFTER = 24 * 3600.0  # seconds without a byte until an upload counts as given up
MOST = 256  # uploads under way at once
LINGERING = 2.0  # seconds that an upload's end waits for whoever writes to it still


class Appending(Protocol):
    """A piece of an upload, being written by one request."""

    offset: int  # where the upload ends by now

    def write(self, piece: bytes) -> None:
        """Add bytes; raises `TooLarge`."""
        ...

    def close(self) -> None:
        """Keep what came; raises `UploadConflict` if somebody else wrote there meanwhile."""
        ...


class Uploads(Protocol):
    """The uploads under way, which outlast the server's process. Every method may block."""

    def begin(self) -> str:
        """A new upload's id; raises `TooLarge` when too many are under way."""
        ...

    def offset(self, upload: str) -> int:
        """How many bytes have arrived; raises `UploadNotFound`."""
        ...

    def append(self, upload: str, start: int) -> Appending:
        """Go on at byte `start`.

        Raises `UploadConflict` when it does not end there, or somebody else is writing.
        """
        ...

    def finish(self, upload: str, digest: str, blobs: Blobs) -> int:
        """Make the upload a blob if it has this digest; returns its size.

        Raises `FileRefused` when the bytes are others; then they are gone.
        """
        ...

    def cancel(self, upload: str) -> None:
        """Give an upload up; one that is not there is fine."""
        ...


def open_uploads(registry: Registry, *, size_limit: int) -> Uploads:
    """Beside a registry's bytes: in its folder, or in its bucket, which several servers share."""
    from .cloud_blobs import CloudBlobs
    from .shared_uploads import SharedUploads

    if isinstance(registry.blobs, CloudBlobs):
        return SharedUploads(registry.blobs.bucket, registry.staging, size_limit=size_limit)
    return LocalUploads(registry.folder / "uploads", size_limit=size_limit)


class LocalUploads:
    """Uploads as files that grow in a folder of the registry's."""

    def __init__(self, folder: Path, *, size_limit: int) -> None:
        self._folder = folder
        self._size_limit = size_limit
        folder.mkdir(parents=True, exist_ok=True)

    def begin(self) -> str:
        """A new upload's id; raises `TooLarge` when too many are under way."""
        self._sweep()
        if sum(1 for _ in self._folder.iterdir()) >= MOST:
            raise TooLarge(f"{MOST} uploads are under way: finish some, or try again later")
        upload = uuid.uuid4().hex
        with full_disks_told():
            (self._folder / upload).touch(mode=0o600, exist_ok=False)
        return upload

    def offset(self, upload: str) -> int:
        """How many bytes have arrived; raises `UploadNotFound`."""
        try:
            return self._path(upload).stat().st_size
        except FileNotFoundError:
            raise upload_not_found(upload) from None

    def append(self, upload: str, start: int) -> LocalAppending:
        file = self._hold(upload, "r+b", fcntl.LOCK_EX)
        end = file.seek(0, os.SEEK_END)
        if end != start:
            file.close()
            raise UploadConflict(f"upload {upload} ends at byte {end}, not at {start}")
        return LocalAppending(file, start, self._size_limit)

    def finish(self, upload: str, digest: str, blobs: Blobs) -> int:
        """Make the upload a blob if it has this digest; returns its size.

        Raises `FileRefused` when the bytes are others; then they are gone. Raises `UploadConflict`
        while somebody writes.
        """
        path = self._path(upload)
        # Whoever went on writing would write into the blob that the file becomes.
        with self._hold_unwritten(upload) as file, full_disks_told():
            os.fsync(file.fileno())
            size = file.seek(0, os.SEEK_END)
            found = digest_file(path)
            if found != digest:
                path.unlink(missing_ok=True)
                raise FileRefused(
                    f"the upload is {found}, not {digest}: begin it again", param="digest"
                )
            path.chmod(0o444)
            blobs.put(digest, path)
            path.unlink(missing_ok=True)  # stores elsewhere copy it
        return size

    def _hold_unwritten(self, upload: str) -> io.FileIO:
        """An upload's file, to which nobody writes until it is closed; raises as `_hold` does.

        A request that was cut may take a moment until it has let go.
        """
        deadline = time.monotonic() + LINGERING
        while True:
            try:
                return self._hold(upload, "rb", fcntl.LOCK_SH)
            except UploadConflict:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(0.02)

    def _hold(self, upload: str, mode: Literal["rb", "r+b"], lock: int) -> io.FileIO:
        """An upload's file, locked until it is closed.

        Raises `UploadNotFound`, or `UploadConflict` when another holds it.
        """
        path = self._path(upload)
        try:
            file = path.open(mode, buffering=0)
        except FileNotFoundError:
            raise upload_not_found(upload) from None
        try:
            fcntl.flock(file, lock | fcntl.LOCK_NB)
            if not path.exists():  # finished between the two calls: this is a blob by now
                raise upload_not_found(upload)
        except BlockingIOError:
            file.close()
            raise UploadConflict(f"upload {upload} is being written by another") from None
        except BaseException:
            file.close()
            raise
        return file

    def cancel(self, upload: str) -> None:
        """Give an upload up; one that is not there is fine."""
        self._path(upload).unlink(missing_ok=True)

    def _sweep(self) -> None:
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > STALE_AFTER:
                    path.unlink()

    def _path(self, upload: str) -> Path:
        if not _ID.fullmatch(upload):
            raise upload_not_found(upload)
        return self._folder / upload


class LocalAppending:
    """A file of an upload, locked until it is closed; what is written stays, whatever happens."""

    def __init__(self, file: io.FileIO, offset: int, size_limit: int) -> None:
        self._file = file
        self.offset = offset
        self._size_limit = size_limit

    def write(self, piece: bytes) -> None:
        """Add bytes; raises `TooLarge`."""
        if self.offset + len(piece) > self._size_limit:
            raise TooLarge(f"the upload is over the limit of {self._size_limit} bytes")
        with full_disks_told():
            write_all(self._file, piece)
        self.offset += len(piece)

    def close(self) -> None:
        """Let others go on."""
        self._file.close()


def upload_not_found(upload: str) -> UploadNotFound:
    """The error for an upload that is not there."""
    return UploadNotFound(f"there is no upload {upload[:40]!r}: begin a new one", param="upload")
