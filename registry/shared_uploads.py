"""Uploads under way in the bucket itself, so that any of several servers takes the next piece.

Each piece is an object `uploads/ID/OFFSET`, created on condition that none is there: of two writers
at one offset the first one wins. An upload ends where its pieces stop following each other.
"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile

from .blobs import Blobs
from .bucket import Bucket, StoredObject
from .errors import FileRefused, TooLarge, UploadConflict, UploadNotFound
from .staging import StagingArea
from .uploads import MOST, STALE_AFTER, upload_not_found

_PREFIX = "uploads/"
_ID = re.compile(r"[0-9a-f]{32}")
_IN_MEMORY = 8 << 20  # bytes of a piece; what is longer waits on the disk for its end


class SharedUploads:
    """The uploads under way at all servers of one bucket."""

    def __init__(self, bucket: Bucket, staging: StagingArea, *, size_limit: int) -> None:
        self._bucket = bucket
        self._staging = staging
        self._size_limit = size_limit

    def begin(self) -> str:
        """A new upload's id; raises `TooLarge` when too many are under way."""
        if len(self._sweep()) >= MOST:
            raise TooLarge(f"{MOST} uploads are under way: finish some, or try again later")
        upload = uuid.uuid4().hex
        self._bucket.create(f"{_PREFIX}{upload}/begun", b"")
        return upload

    def offset(self, upload: str) -> int:
        """How many bytes have arrived in a row; raises `UploadNotFound`."""
        pieces = self._pieces(upload)
        return _offset(pieces[-1]) + pieces[-1].size if pieces else 0

    def append(self, upload: str, start: int) -> SharedAppending:
        """Go on at byte `start`; raises `UploadConflict` when the upload does not end there."""
        end = self.offset(upload)
        if end != start:
            raise UploadConflict(f"upload {upload} ends at byte {end}, not at {start}")
        return SharedAppending(self._bucket, upload, start, self._size_limit)

    def finish(self, upload: str, digest: str, blobs: Blobs) -> int:
        """Make the upload a blob if it has this digest; returns its size.

        Raises `FileRefused` when the bytes are others; then they are gone.
        """
        pieces = self._pieces(upload)
        with self._staging.stage() as staging:
            staged = staging.add_pieces(self._content(pieces), limit=self._size_limit)
            if staged.digest != digest:
                self.cancel(upload)
                raise FileRefused(
                    f"the upload is {staged.digest}, not {digest}: begin it again", param="digest"
                )
            staging.publish(blobs)
        self.cancel(upload)
        return staged.size

    def cancel(self, upload: str) -> None:
        """Give an upload up; one that is not there is fine."""
        _check(upload)
        for found in list(self._bucket.list(f"{_PREFIX}{upload}/")):
            self._bucket.delete(found.path)

    def _pieces(self, upload: str) -> list[StoredObject]:
        """The pieces that follow each other from the start on, in order."""
        _check(upload)
        found = sorted(self._bucket.list(f"{_PREFIX}{upload}/"), key=lambda each: each.path)
        if not found:
            raise upload_not_found(upload)
        pieces: list[StoredObject] = []
        end = 0
        for piece in found:
            if not piece.path.endswith("/begun") and _offset(piece) == end:
                pieces.append(piece)
                end += piece.size
        return pieces

    def _content(self, pieces: list[StoredObject]) -> Iterator[bytes]:
        for piece in pieces:
            yield from self._bucket.read(piece.path)

    def _sweep(self) -> set[str]:
        """Remove uploads that were given up; returns the ids of the others."""
        newest: dict[str, float] = {}
        for found in self._bucket.list(_PREFIX):
            upload = found.path.removeprefix(_PREFIX).partition("/")[0]
            newest[upload] = max(newest.get(upload, 0.0), found.modified_at.timestamp())
        stale = {upload for upload, at in newest.items() if time.time() - at > STALE_AFTER}
        for upload in stale:
            with contextlib.suppress(UploadNotFound):
                self.cancel(upload)
        return set(newest) - stale


class SharedAppending:
    """A piece on its way in; it counts once it is closed, as far as it came."""

    def __init__(self, bucket: Bucket, upload: str, start: int, size_limit: int) -> None:
        self._bucket = bucket
        self._upload = upload
        self._start = start
        self._size_limit = size_limit
        self._piece = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (closed in `close`)
        self.offset = start

    def write(self, piece: bytes) -> None:
        """Add bytes; raises `TooLarge`."""
        if self.offset + len(piece) > self._size_limit:
            raise TooLarge(f"the upload is over the limit of {self._size_limit} bytes")
        self._piece.write(piece)
        self.offset += len(piece)

    def close(self) -> None:
        """Store what came; raises `UploadConflict` if somebody else wrote there meanwhile."""
        with self._piece:
            if self.offset == self._start:
                return
            self._piece.seek(0)
            name = f"{_PREFIX}{self._upload}/{self._start:020}"
            if not self._bucket.create(name, self._piece):
                raise UploadConflict(f"upload {self._upload} is being written by another")


def _offset(piece: StoredObject) -> int:
    return int(piece.path.rpartition("/")[2])


def _check(upload: str) -> None:
    if not _ID.fullmatch(upload):
        raise upload_not_found(upload)
