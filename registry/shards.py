"""The safetensors shards of a checkpoint and their digests, cached in `hatstand-base.json`."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from .canonical import Progress, digest_file
from .errors import InvalidBase
from .validation import parse_model, parse_object

BASE_FILE = "hatstand-base.json"
INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"


class ShardEntry(BaseModel):
    """One shard's digest, and the size and time at which it was taken."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    size: int
    mtime_ns: int


class BaseFile(BaseModel):
    """What `hatstand-base.json` holds.

    `shards` caches the digests of the folder's own files. `unquantized` is set when the folder
    was made by quantizing another: the digests of that other's shards.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str | None = None
    source: str | None = None
    revision: str | None = None
    quantization: dict[str, Any] | None = None
    unquantized: dict[str, str] | None = None
    shards: dict[str, ShardEntry] = {}

    def write(self, folder: Path) -> None:
        """Write it beside the checkpoint, whole or not at all. Raises OSError."""
        text = self.model_dump_json(indent=2, exclude_none=True) + "\n"
        handle, partial = tempfile.mkstemp(prefix=f".{BASE_FILE}.", dir=folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(partial).chmod(0o644)  # mkstemp's own mode would hide it from other users
            Path(partial).replace(folder / BASE_FILE)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise


def read_base_file(folder: Path) -> BaseFile:
    """What `hatstand-base.json` says, or an empty one where there is none."""
    try:
        text = (folder / BASE_FILE).read_bytes()
    except FileNotFoundError:
        return BaseFile()
    value = parse_object(text, source=BASE_FILE, error=InvalidBase)
    return parse_model(BaseFile, value, source=BASE_FILE, error=InvalidBase)


def shard_digests(folder: Path, *, progress: Progress | None = None) -> dict[str, str]:
    """File name → digest of the unquantized shards that the checkpoint is, or was made from.

    Digests are cached; a shard whose size or time changed is hashed again. Raises `InvalidBase`
    when a shard is missing, or when a quantized checkpoint no longer is what was made.
    """
    about = read_base_file(folder)
    current = {name: _entry(folder, name, about, progress) for name in shard_names(folder)}
    if about.unquantized is not None and about.shards:
        for name, entry in current.items():
            known = about.shards.get(name)
            if known is None or known.sha256 != entry.sha256:
                raise InvalidBase(
                    f"{folder / name} changed after this checkpoint was quantized: "
                    f"pull the base again",
                    param=name,
                )
    if current != about.shards:
        with contextlib.suppress(OSError):  # a read-only folder is hashed again next time
            about.model_copy(update={"shards": current}).write(folder)
    if about.unquantized is not None:
        return about.unquantized
    return {name: entry.sha256 for name, entry in current.items()}


def shard_names(folder: Path) -> list[str]:
    """The files that hold the weights, sorted: those the index names, or the single file."""
    try:
        text = (folder / INDEX_FILE).read_bytes()
    except FileNotFoundError:
        if (folder / SINGLE_FILE).is_file():
            return [SINGLE_FILE]
        raise InvalidBase(
            f"{folder} holds neither {SINGLE_FILE} nor {INDEX_FILE}: only safetensors "
            "checkpoints can be a base",
            param=SINGLE_FILE,
        ) from None
    return names_in_index(text)


def names_in_index(text: bytes) -> list[str]:
    """The files that `model.safetensors.index.json` names, sorted; raises `InvalidBase`."""
    mapping = parse_object(text, source=INDEX_FILE, error=InvalidBase).get("weight_map")
    names = set(mapping.values()) if isinstance(mapping, dict) else set()
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise InvalidBase(f"{INDEX_FILE}: 'weight_map' must map tensors to files beside it")
    return sorted(names)


def _entry(folder: Path, name: str, about: BaseFile, progress: Progress | None) -> ShardEntry:
    path = folder / name
    try:
        stat = path.stat()
        known = about.shards.get(name)
        if known is not None and (known.size, known.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
            return known
        digest = digest_file(path, progress)
    except OSError as failure:
        raise InvalidBase(
            f"{path}: {failure.strerror}; the checkpoint is incomplete", param=name
        ) from None
    return ShardEntry(sha256=digest, size=stat.st_size, mtime_ns=stat.st_mtime_ns)
