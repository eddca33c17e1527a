"""Blobs in a folder, while others are at work in it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from registry import local_blobs
from registry.errors import BlobNotFound
from registry.local_blobs import LocalBlobs

CONTENT = b"some bytes"
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


def test_a_blob_may_be_collected_as_soon_as_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, staged = LocalBlobs(tmp_path / "blobs"), tmp_path / "staged"
    staged.write_bytes(CONTENT)
    monkeypatch.setattr(local_blobs, "_sync_folder", lambda _: blobs.delete(DIGEST))
    blobs.put(DIGEST, staged)
    with pytest.raises(BlobNotFound):
        blobs.local(DIGEST, len(CONTENT))


def test_what_was_put_is_not_hashed_again_until_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, staged = LocalBlobs(tmp_path / "blobs"), tmp_path / "staged"
    staged.write_bytes(CONTENT)
    blobs.put(DIGEST, staged)
    checked: list[str] = []
    monkeypatch.setattr(blobs, "check", checked.append)
    assert blobs.local(DIGEST, len(CONTENT)).read_bytes() == CONTENT
    assert checked == []
    blobs.path(DIGEST).write_bytes(CONTENT[::-1])
    blobs.local(DIGEST, len(CONTENT))
    assert checked == [DIGEST]
