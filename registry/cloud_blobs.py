"""Blobs in a bucket: S3, Google Cloud Storage or Azure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from .blob_cache import BlobCache
from .blobs import StoredBlob, missing
from .bucket import Bucket, StoredObject
from .canonical import Progress
from .errors import Corrupted

_PREFIX = "sha256/"


class CloudBlobs:
    """Blobs as objects `sha256/abcd…`; those that must be files are copied into a cache."""

    def __init__(self, bucket: Bucket, cache: BlobCache) -> None:
        self.bucket = bucket
        self._cache = cache

    def find(self, digest: str) -> StoredBlob | None:
        found = self.bucket.find(_key(digest))
        return None if found is None else _stored(found)

    def read(self, digest: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        try:
            return self.bucket.read(_key(digest), start, stop)
        except FileNotFoundError:
            raise missing(digest) from None

    def check(self, digest: str, progress: Progress | None = None) -> None:
        found = self.find(digest)
        if found is None:
            raise missing(digest)
        hasher = hashlib.sha256()
        done = 0
        for piece in self.read(digest):
            hasher.update(piece)
            done += len(piece)
            if progress is not None:
                progress(digest, done, found.size)
        if f"sha256:{hasher.hexdigest()}" != digest:
            raise Corrupted(
                f"blob {digest} now hashes to sha256:{hasher.hexdigest()}: its bytes changed",
                param=digest,
            )

    def local(self, digest: str, size: int) -> Path:
        return self._cache.get(digest, size, lambda: self.read(digest))

    def put(self, digest: str, file: Path) -> None:
        """Upload, unless an object of that size is there.

        An object damaged at equal length has to be deleted first: `registry verify` says so.
        """
        found = self.find(digest)
        if found is None:
            self.bucket.create(_key(digest), file)  # of two who upload the same, the first wins
        elif found.size != file.stat().st_size:
            self.bucket.replace(_key(digest), file)

    def delete(self, digest: str) -> None:
        self.bucket.delete(_key(digest))

    def list(self) -> Iterator[StoredBlob]:
        yield from map(_stored, self.bucket.list(_PREFIX))


def _key(digest: str) -> str:
    return _PREFIX + digest.removeprefix("sha256:")


def _stored(found: StoredObject) -> StoredBlob:
    return StoredBlob(f"sha256:{found.path.removeprefix(_PREFIX)}", found.size, found.modified_at)
