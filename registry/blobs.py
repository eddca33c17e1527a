"""Where bytes live: a blob's name is the sha256 of its content, wherever the store is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from .canonical import Progress
from .errors import BlobNotFound, CatalogUnavailable

CLOUDS = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "memory")


@dataclass(frozen=True)
class StoredBlob:
    """One blob as the store lists it; `modified_at` knows its zone."""

    digest: str
    size: int
    modified_at: datetime


class Blobs(Protocol):
    """A store of immutable blobs, safe for several threads and processes.

    A blob is whole or not there. Failures of the store itself raise `StoreUnavailable`.
    """

    def find(self, digest: str) -> StoredBlob | None:
        """Size and age of a blob, or None; its bytes are not looked at."""
        ...

    def read(self, digest: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`, in pieces; raises `BlobNotFound` at once."""
        ...

    def check(self, digest: str, progress: Progress | None = None) -> None:
        """Hash a blob now; raises `Corrupted` if it is not what its name says."""
        ...

    def local(self, digest: str, size: int) -> Path:
        """A path of the blob's verified bytes, to be read and never written.

        Hashed once per process; the size is compared every time. Raises `Corrupted`.
        """
        ...

    def put(self, digest: str, file: Path) -> None:
        """Store a file whose digest is known; the file may be moved away."""
        ...

    def delete(self, digest: str) -> None:
        """Remove a blob; removing what is not there is fine."""
        ...

    def list(self) -> Iterator[StoredBlob]:
        """Every blob, in no order."""
        ...


def missing(digest: str) -> BlobNotFound:
    """The error for a blob that is not there."""
    return BlobNotFound(f"blob {digest} is missing from the registry", param=digest)


def open_blobs(location: str, cache: Path) -> Blobs:
    """The store at a folder, a `file://` URL, or a bucket: `s3://`, `gs://`, `az://`.

    Buckets are configured by their clouds' usual environment variables. `cache` keeps local
    copies of a bucket's blobs. Raises `CatalogUnavailable` for another kind of URL.
    """
    from .local_blobs import LocalBlobs

    scheme = urlsplit(location).scheme if "://" in location else ""
    if scheme in ("", "file"):
        return LocalBlobs(Path(location.removeprefix("file://")).expanduser().absolute())
    if scheme not in CLOUDS:
        raise CatalogUnavailable(
            f"{scheme}:// is no store for blobs: name a folder, s3://, gs:// or az://",
            param="blobs",
        )
    from .blob_cache import BlobCache
    from .bucket import Bucket
    from .cloud_blobs import CloudBlobs

    return CloudBlobs(Bucket.open(location), BlobCache(cache))
