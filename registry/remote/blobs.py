"""The blobs of a registry on another machine: uploads and downloads that survive cuts."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from registry.blob_cache import BlobCache
from registry.blobs import StoredBlob, missing
from registry.canonical import Progress
from registry.errors import (
    BlobNotFound,
    Corrupted,
    NotFound,
    RegistryError,
    RegistryUnreachable,
    UploadConflict,
    UploadNotFound,
)

from .connection import Connection, said

PIECE = 4 << 20  # bytes in one request, which servers and proxies let through
_CUTS = 5  # in a row, without a byte in between, until a transfer is given up


class RemoteBlobs:
    """Blobs behind HTTP, with local copies in a cache.

    `unfinished` is a folder that remembers uploads, so that the next push goes on with them.
    """

    def __init__(
        self,
        connection: Connection,
        cache: BlobCache,
        unfinished: Path,
        progress: Progress | None = None,
    ) -> None:
        self._connection = connection
        self._cache = cache
        self._unfinished = unfinished
        self._progress = progress

    def find(self, digest: str) -> StoredBlob | None:
        try:
            head = self._connection.call("HEAD", f"/blobs/{digest}")
        except (NotFound, BlobNotFound):
            return None
        return StoredBlob(digest, int(head.headers["content-length"]), datetime.now(UTC))

    def read(self, digest: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        found = self.find(digest)
        if found is None:
            raise missing(digest)
        return self._pieces(digest, start, found.size if stop is None else min(stop, found.size))

    def check(self, digest: str, progress: Progress | None = None) -> None:
        found = self.find(digest)
        if found is None:
            raise missing(digest)
        hasher, done = hashlib.sha256(), 0
        for piece in self._pieces(digest, 0, found.size):
            hasher.update(piece)
            done += len(piece)
            if progress is not None:
                progress(digest, done, found.size)
        if f"sha256:{hasher.hexdigest()}" != digest:
            raise Corrupted(f"blob {digest} arrived as sha256:{hasher.hexdigest()}", param=digest)

    def local(self, digest: str, size: int) -> Path:
        return self._cache.get(digest, size, lambda: self.read(digest))

    def put(self, digest: str, file: Path) -> None:
        """Upload unless it is there, going on with what an earlier attempt got through."""
        if self.find(digest) is not None:
            return
        size = file.stat().st_size
        upload, offset = self._begin(digest)
        cuts = 0
        while offset < size:
            try:
                offset, cuts = self._append(upload, file, offset), 0
            except (RegistryUnreachable, UploadConflict):
                cuts += 1
                if cuts > _CUTS:
                    raise
                offset = self._offset(upload)
            if self._progress is not None:
                self._progress(f"uploading {digest[:19]}", offset, size)
        self._finish(upload, digest)
        self._note(digest).unlink(missing_ok=True)

    def delete(self, digest: str) -> None:
        raise RegistryError(
            f"{digest}: blobs are collected beside the registry, not from elsewhere"
        )

    def list(self) -> Iterator[StoredBlob]:
        raise RegistryError("blobs are listed beside the registry, not from elsewhere")

    def _pieces(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes; after a cut, from where it was."""
        cuts = 0
        while start < stop:
            headers = {"range": f"bytes={start}-{stop - 1}", "accept-encoding": "identity"}
            try:
                with self._connection.stream(f"/blobs/{digest}", headers=headers) as response:
                    for piece in response.iter_raw():
                        start, cuts = start + len(piece), 0
                        yield piece
            except RegistryUnreachable:
                cuts += 1
                if cuts > _CUTS:
                    raise

    def _begin(self, digest: str) -> tuple[str, int]:
        """An upload's id and where it ends: one begun earlier, or a new one."""
        with contextlib.suppress(OSError, UploadNotFound):
            upload = self._note(digest).read_text()
            return upload, self._offset(upload)
        upload = said(self._connection.call("POST", "/blobs/uploads"))["upload"]
        self._unfinished.mkdir(parents=True, exist_ok=True)
        self._note(digest).write_text(upload)
        return upload, 0

    def _append(self, upload: str, file: Path, offset: int) -> int:
        with file.open("rb") as reader:
            reader.seek(offset)
            piece = reader.read(PIECE)
        headers = {"content-range": f"{offset}-{offset + len(piece) - 1}"}
        path = f"/blobs/uploads/{upload}"
        answer = self._connection.call("PATCH", path, content=piece, headers=headers)
        return int(said(answer)["offset"])

    def _finish(self, upload: str, digest: str) -> None:
        try:
            self._connection.call("PUT", f"/blobs/uploads/{upload}", params={"digest": digest})
        except UploadNotFound:
            # The answer to an earlier attempt may have been lost: then the blob is there.
            if self.find(digest) is None:
                raise

    def _offset(self, upload: str) -> int:
        return int(said(self._connection.call("GET", f"/blobs/uploads/{upload}"))["offset"])

    def _note(self, digest: str) -> Path:
        host = hashlib.sha256(self._connection.url.encode()).hexdigest()[:12]
        return self._unfinished / f"{host}-{digest.removeprefix('sha256:')}"
