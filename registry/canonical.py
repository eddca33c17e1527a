"""The one spelling of a JSON value, and digests: what identity by content rests on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

# Called with what is being worked on, bytes done so far, and bytes in all.
Progress = Callable[[str, int, int], None]

CHUNK = 1 << 20  # bytes read at a time


def canonical_json(value: object) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces; raises ValueError on NaN and infinities."""
    text = json.dumps(
        value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    return text.encode()


def digest_of(content: bytes) -> str:
    """`sha256:` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def digest_file(path: Path, progress: Progress | None = None) -> str:
    """The digest of a file's content, read in pieces."""
    total = path.stat().st_size
    done = 0
    hasher = hashlib.sha256()
    buffer = memoryview(bytearray(min(CHUNK, total) or 1))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
            done += count
            if progress is not None:
                progress(path.name, done, total)
    return "sha256:" + hasher.hexdigest()
