"""Checking a manifest whose blobs were uploaded one by one, before it becomes a version."""

from __future__ import annotations

from pathlib import Path

from .blobs import Blobs
from .bundle import LAYERS, REQUIRED, SMALL, WHOLE
from .candidate import Candidate
from .canonical import Progress
from .errors import BlobsMissing, FileRefused, InvalidLock, TooLarge
from .lint import check_lock, lint
from .lock import LOCK_FILE, Lock
from .manifest import LOCK_TYPE, Manifest


def admit(
    manifest: Manifest, blobs: Blobs, *, size_limit: int, progress: Progress | None = None
) -> Candidate:
    """Check what a client wants to commit exactly as a push of a folder is checked.

    Raises `BlobsMissing`, or the `PushRefused`, `InvalidHat` or `InvalidLock` that says why not.
    """
    _check_layout(manifest, size_limit)
    files = _files(manifest, blobs)
    content = files[LOCK_FILE].read_bytes()
    lock = Lock.from_bytes(content)
    if lock.to_bytes() != content:
        # Two spellings of one lock would be two versions.
        raise InvalidLock(f"{LOCK_FILE} is not in its canonical spelling", param=LOCK_FILE)
    report = lint(files, lock.base.config, progress=progress)
    check_lock(lock, files, report)
    return Candidate(manifest, lock, report)


def _check_layout(manifest: Manifest, size_limit: int) -> None:
    """Which files there are, before any is opened."""
    if manifest.config.media_type != LOCK_TYPE or manifest.config.title is not None:
        raise FileRefused(f"the manifest's config must be a {LOCK_TYPE}", param="config")
    names = [layer.title for layer in manifest.layers]
    if names != [name for name in LAYERS if name in names]:
        raise FileRefused(
            f"the manifest's layers must be some of {', '.join(LAYERS)}, each once, in this order",
            param="layers",
        )
    for layer in manifest.layers:
        if layer.media_type != LAYERS[str(layer.title)]:
            raise FileRefused(f"{layer.title} must be {LAYERS[str(layer.title)]}", param="layers")
    for name in REQUIRED:
        if name not in names:
            raise FileRefused(f"the manifest has no {name}", param=name)
    for name in WHOLE & set(manifest.files):
        if manifest.files[name].size > SMALL:
            raise TooLarge(f"{name} is over {SMALL >> 20} MiB", param=name)
    if manifest.size > size_limit:
        raise TooLarge(f"the adapter has {manifest.size} bytes, over the limit of {size_limit}")


def _files(manifest: Manifest, blobs: Blobs) -> dict[str, Path]:
    """The uploaded files' verified bytes."""
    found = {blob.digest: blobs.find(blob.digest) for blob in manifest.files.values()}
    absent = [digest for digest, blob in found.items() if blob is None]
    if absent:
        raise BlobsMissing(absent)
    for name, blob in manifest.files.items():
        stored = found[blob.digest]
        if stored is not None and stored.size != blob.size:
            raise FileRefused(
                f"{name} has {stored.size} bytes, the manifest says {blob.size}", param=name
            )
    return {name: blobs.local(blob.digest, blob.size) for name, blob in manifest.files.items()}
