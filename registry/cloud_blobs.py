"""Blobs in a bucket: S3, Google Cloud Storage or Azure, through obstore."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .blob_cache import BlobCache
from .blobs import StoredBlob, missing
from .canonical import CHUNK, Progress
from .errors import CatalogUnavailable, Corrupted, StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PREFIX = "sha256/"


class CloudBlobs:
    """Blobs as objects `sha256/abcd…`; those that must be files are copied into a cache."""

    def __init__(self, store: ObjectStore, location: str, cache: BlobCache) -> None:
        self._store = store
        self._location = location
        self._cache = cache

    @classmethod
    def open(cls, location: str, cache: BlobCache) -> CloudBlobs:
        """Open a bucket by URL; raises `CatalogUnavailable` when that cannot work."""
        try:
            from obstore.exceptions import BaseError
            from obstore.store import from_url
        except ModuleNotFoundError:
            raise CatalogUnavailable(
                f"{location} needs obstore: pip install 'hatstand[s3]'", param="blobs"
            ) from None
        try:
            return cls(from_url(location), location, cache)
        except (BaseError, ValueError) as failure:
            raise CatalogUnavailable(
                f"the bucket {location} cannot be opened: {failure}", param="blobs"
            ) from None

    def find(self, digest: str) -> StoredBlob | None:
        try:
            with self._errors():
                return _stored(self._store.head(_key(digest)))
        except FileNotFoundError:
            return None

    def read(self, digest: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        if stop is not None and stop <= start:
            return iter(())
        whole = start == 0 and stop is None
        asked: Any = {"offset": start} if stop is None else (start, stop)
        try:
            with self._errors():
                got = self._store.get(_key(digest), options={} if whole else {"range": asked})
        except FileNotFoundError:
            raise missing(digest) from None
        return self._pieces(got)

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
        from obstore.exceptions import AlreadyExistsError

        found = self.find(digest)
        size = file.stat().st_size
        if found is not None and found.size == size:
            return
        with self._errors(), contextlib.suppress(AlreadyExistsError):
            # Somebody else may be uploading the same bytes: the first one wins.
            self._store.put(_key(digest), file, mode="overwrite" if found else "create")

    def delete(self, digest: str) -> None:
        with self._errors(), contextlib.suppress(FileNotFoundError):
            self._store.delete(_key(digest))

    def list(self) -> Iterator[StoredBlob]:
        with self._errors():
            for page in self._store.list(_PREFIX):
                yield from map(_stored, page)

    def _pieces(self, got: Any) -> Iterator[bytes]:
        with self._errors():
            yield from map(bytes, got.stream(min_chunk_size=CHUNK))

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            yield
        except AlreadyExistsError:
            raise
        except (BaseError, PermissionError) as failure:
            raise StoreUnavailable(
                f"the bucket {self._location} cannot be used: {failure}", param="blobs"
            ) from failure


def _key(digest: str) -> str:
    return _PREFIX + digest.removeprefix("sha256:")


def _stored(found: Any) -> StoredBlob:
    name = found["path"].removeprefix(_PREFIX)
    return StoredBlob(f"sha256:{name}", found["size"], found["last_modified"])
