"""A bucket's objects by path: S3, Google Cloud Storage or Azure, through obstore."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .canonical import CHUNK
from .errors import CatalogUnavailable, StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore


@dataclass(frozen=True)
class StoredObject:
    """One object as the bucket lists it; `modified_at` knows its zone."""

    path: str
    size: int
    modified_at: datetime


class Bucket:
    """Objects below one URL. Failures of the store raise `StoreUnavailable`."""

    def __init__(self, store: ObjectStore, location: str) -> None:
        self._store = store
        self._location = location

    @classmethod
    def open(cls, location: str) -> Bucket:
        """Open a bucket by URL; raises `CatalogUnavailable` when that cannot work."""
        try:
            from obstore.exceptions import BaseError
            from obstore.store import from_url
        except ModuleNotFoundError:
            raise CatalogUnavailable(
                f"{location} needs obstore: pip install 'hatstand[s3]'", param="blobs"
            ) from None
        try:
            return cls(from_url(location), location)
        except (BaseError, ValueError) as failure:
            raise CatalogUnavailable(
                f"the bucket {location} cannot be opened: {failure}", param="blobs"
            ) from None

    def find(self, path: str) -> StoredObject | None:
        """An object's size and age, or None."""
        try:
            with self._errors():
                return _stored(self._store.head(path))
        except FileNotFoundError:
            return None

    def read(self, path: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`; raises FileNotFoundError at once."""
        if stop is not None and stop <= start:
            return iter(())
        whole = start == 0 and stop is None
        asked: Any = {"offset": start} if stop is None else (start, stop)
        with self._errors():
            return self._pieces(self._store.get(path, options={} if whole else {"range": asked}))

    def create(self, path: str, content: bytes | IO[bytes] | Path) -> bool:
        """Store an object where none is; False, and nothing stored, where one is."""
        from obstore.exceptions import AlreadyExistsError

        try:
            with self._errors():
                self._store.put(path, content, mode="create")
        except AlreadyExistsError:
            return False
        return True

    def replace(self, path: str, content: bytes | Path) -> None:
        """Store an object, whether or not one is there."""
        with self._errors():
            self._store.put(path, content, mode="overwrite")

    def delete(self, path: str) -> None:
        """Remove an object; removing what is not there is fine."""
        with self._errors(), contextlib.suppress(FileNotFoundError):
            self._store.delete(path)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """The objects below a prefix that ends with a slash, in no order."""
        with self._errors():
            for page in self._store.list(prefix):
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


def _stored(found: Any) -> StoredObject:
    return StoredObject(found["path"], found["size"], found["last_modified"])
