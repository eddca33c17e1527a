"""Copying a version's files out of the registry."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path

from .blobs import Blobs, missing
from .bundle import LAYERS
from .canonical import Progress
from .errors import Corrupted, DestinationExists
from .hashing import FollowingHash, hashing_thread
from .lock import LOCK_FILE
from .manifest import Descriptor
from .staging import write_all


def copy_out(
    blobs: Blobs,
    files: Mapping[str, Descriptor],
    folder: Path,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> None:
    """Copy `files` from `blobs` into `folder`, verifying each; a file is whole or not there.

    A folder that is not empty needs `force`; then a bundle's files are replaced, those that this
    version lacks go, and strangers stay. Raises `DestinationExists` or `Corrupted`.
    """
    if folder.exists() and not folder.is_dir():
        raise DestinationExists(f"{folder} is a file: name a folder", param=str(folder))
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise DestinationExists(
            f"{folder} is not empty: name another folder, or write over it with --force",
            param=str(folder),
        )
    for blob in files.values():
        if blobs.find(blob.digest) is None:
            raise missing(blob.digest)
    folder.mkdir(parents=True, exist_ok=True)
    for name in {*LAYERS, LOCK_FILE} - set(files):
        (folder / name).unlink(missing_ok=True)  # a leftover template would join this version
    with hashing_thread() as hasher:
        for name, blob in files.items():
            _copy(blobs.read(blob.digest), folder / name, blob, hasher, progress)


def _copy(
    pieces: Iterator[bytes],
    target: Path,
    blob: Descriptor,
    hasher: Executor,
    progress: Progress | None,
) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    hashed = FollowingHash(partial, hasher)
    done = 0
    try:
        with partial.open("wb", buffering=0) as writer:
            for piece in pieces:
                write_all(writer, piece)
                done += len(piece)
                hashed.follow(done)
                if progress is not None:
                    progress(f"copying {target.name}", done, blob.size)
        if hashed.digest().result() != blob.digest:
            raise Corrupted(
                f"blob {blob.digest} no longer matches its digest: run `registry verify`",
                param=blob.digest,
            )
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
