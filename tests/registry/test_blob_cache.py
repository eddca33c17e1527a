"""Copies of blobs: who makes room, and when one is hashed again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from registry import blob_cache
from registry.blob_cache import BlobCache


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Shop:
    """A cache, and how often each content had to be brought."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.cache = BlobCache(folder, limit=limit)
        self.brought: list[bytes] = []

    def get(self, content: bytes) -> Path:
        def fetch() -> list[bytes]:
            self.brought.append(content)
            return [content]

        return self.cache.get(digest_of(content), len(content), lambda: iter(fetch()))


def test_who_was_used_longest_ago_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_cache, "_IN_USE", 0.0)
    shop = Shop(tmp_path, limit=25)
    for content, used in ((b"a" * 10, 200), (b"b" * 10, 100)):
        path = shop.get(content)
        os.utime(path, (used, path.stat().st_mtime))
    shop.get(b"c" * 10)
    shop.get(b"a" * 10)
    assert len(shop.brought) == 3
    shop.get(b"b" * 10)
    assert shop.brought[-1] == b"b" * 10


def test_a_use_is_no_change_but_other_bytes_are(tmp_path: Path) -> None:
    shop = Shop(tmp_path, limit=1000)
    path = shop.get(b"sound")
    written = path.stat().st_mtime_ns
    assert shop.get(b"sound").stat().st_mtime_ns == written
    path.chmod(0o600)
    path.write_bytes(b"wrong")
    assert shop.get(b"sound").read_bytes() == b"sound"
    assert shop.brought == [b"sound", b"sound"]
