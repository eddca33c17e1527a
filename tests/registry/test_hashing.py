"""A hash that follows a growing file."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.canonical import digest_of
from registry.hashing import FollowingHash, hashing_thread


def test_what_is_written_piece_by_piece_is_hashed_whole(tmp_path: Path) -> None:
    path, written = tmp_path / "growing", b""
    with hashing_thread() as thread, path.open("wb", buffering=0) as file:
        hashed = FollowingHash(path, thread)
        for number in range(50):
            piece = bytes([number]) * (number * 997)
            file.write(piece)
            written += piece
            hashed.follow(len(written))
        assert hashed.digest().result() == digest_of(written)


def test_only_what_was_followed_counts(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"final, and what may still change")
    with hashing_thread() as thread:
        hashed, empty = FollowingHash(path, thread), FollowingHash(path, thread)
        hashed.follow(5)
        assert hashed.digest().result() == digest_of(b"final")
        assert empty.digest().result() == digest_of(b"")


def test_a_file_that_went_is_an_error_and_no_digest(tmp_path: Path) -> None:
    with hashing_thread() as thread:
        hashed = FollowingHash(tmp_path / "none", thread)
        hashed.follow(1)
        with pytest.raises(FileNotFoundError):
            hashed.digest().result()
