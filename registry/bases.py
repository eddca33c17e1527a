"""Base models on disk: who they are, by content rather than by name.

`hatstand-base.json` beside a checkpoint records where it came from and caches the digests of its
shards, so that 14 GB are hashed once. A checkpoint that was quantized at pull also carries the
digests of the shards it was made from, and so keeps its source's fingerprint.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from .canonical import Progress, canonical_json, digest_of
from .errors import BaseNotFound, InvalidBase
from .homes import base_cache
from .quantization import NF4, UNQUANTIZED, canonical_quantization
from .shards import BASE_FILE, BaseFile, read_base_file, shard_digests
from .validation import near, parse_object

__all__ = [
    "BASE_FILE",
    "NF4",
    "UNQUANTIZED",
    "BaseRecord",
    "find_base",
    "fingerprint",
    "fingerprint_of",
    "read_base",
    "shard_digests",
    "write_base",
]

_REQUIRED = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
)
_MOST_LAYERS = 4096  # far above any model; bounds the work a hostile record could ask for


class BaseRecord(BaseModel):
    """A base: `fingerprint` is its identity, `config` the shape fields of its config.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str
    revision: str | None = None
    fingerprint: str
    quantization: dict[str, Any]
    config: dict[str, Any]

    @field_validator("config")
    @classmethod
    def _has_shapes(cls, config: dict[str, Any]) -> dict[str, Any]:
        return shape_fields(config)


def shape_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config.json that decide tensor shapes; raises ValueError on missing ones."""
    shapes = {key: _positive(config, key) for key in _REQUIRED}
    if shapes["num_hidden_layers"] > _MOST_LAYERS:
        raise ValueError(f"num_hidden_layers is over {_MOST_LAYERS}")
    heads = shapes["num_attention_heads"]
    shapes["num_key_value_heads"] = _positive(config, "num_key_value_heads", heads)
    shapes["head_dim"] = _positive(config, "head_dim", shapes["hidden_size"] // heads)
    return {
        **shapes,
        "tie_word_embeddings": bool(config.get("tie_word_embeddings", False)),
        "max_position_embeddings": _positive(config, "max_position_embeddings", 4096 * 32),
        "model_type": str(config.get("model_type", "mistral")),
    }


def _positive(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key} must be a positive integer, not {value!r}")
    return value


def fingerprint(
    folder: Path, quantization: Mapping[str, Any], *, progress: Progress | None = None
) -> str:
    """The identity of the checkpoint in `folder` once quantized that way: `sha256:` + 64 hex.

    It covers the sorted (file name, sha256) pairs of the unquantized safetensors shards and the
    canonical quantization, nothing else: a mirror or a local copy of the same base matches.
    """
    return fingerprint_of(shard_digests(folder, progress=progress), quantization)


def fingerprint_of(digests: Mapping[str, str], quantization: Mapping[str, Any]) -> str:
    """The identity of shards known by name and digest, wherever they are."""
    quantized = digest_of(canonical_json(canonical_quantization(quantization)))
    return digest_of(canonical_json({"quantization": quantized, "shards": sorted(digests.items())}))


def read_base(
    folder: Path,
    *,
    quantization: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> BaseRecord:
    """The record of the checkpoint in `folder`, hashing its shards only when nothing is cached.

    `quantization` None means what the checkpoint itself says, else what `hatstand-base.json`
    says, else NF4. Raises `InvalidBase` when the checkpoint is incomplete or has changed since
    it was made.
    """
    config = _read_config(folder)
    about = read_base_file(folder)
    if quantization is None:
        quantization = config.get("quantization_config") or about.quantization or NF4
    try:
        shapes = shape_fields(config)
    except ValueError as failure:
        raise InvalidBase(f"{folder / 'config.json'}: {failure}", param="config.json") from None
    return BaseRecord(
        name=about.name or folder.resolve().name,
        # Not the path: a record must read the same on every machine.
        source=about.source or folder.resolve().name,
        revision=about.revision,
        fingerprint=fingerprint(folder, quantization, progress=progress),
        quantization=canonical_quantization(quantization),
        config=shapes,
    )


def write_base(
    folder: Path,
    *,
    name: str,
    source: str,
    revision: str | None = None,
    quantization: Mapping[str, Any] | None = None,
    unquantized: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> BaseRecord:
    """Record where a checkpoint came from in `hatstand-base.json`, and return its record.

    A checkpoint quantized from another passes the other's `shard_digests` as `unquantized`.
    """
    about = BaseFile(
        name=name,
        source=source,
        revision=revision,
        quantization=None if quantization is None else dict(quantization),
        unquantized=None if unquantized is None else dict(unquantized),
    )
    about.write(folder)
    return read_base(folder, progress=progress)


def find_base(name_or_path: str | os.PathLike[str]) -> Path:
    """The checkpoint folder for a path, a pulled base's name, or a pulled Hub id."""
    text = os.fspath(name_or_path)
    folder = Path(text).expanduser()
    if _is_checkpoint(folder):
        return folder
    pulled = base_cache() / text.replace("/", "--")
    inside = bool(text) and pulled.parent == base_cache() and pulled.name not in {".", ".."}
    if inside and _is_checkpoint(pulled):
        return pulled
    if os.path.isdir(text):  # noqa: PTH112 (Path.is_dir raises on over-long names)
        raise BaseNotFound(f"{folder} has no config.json, so it is no checkpoint", param="base")
    there = [folder.name for folder in pulled_bases()]
    found = f"pulled so far: {', '.join(there)}" if there else "nothing is pulled yet"
    if text.startswith((".", "/", "~")):
        raise BaseNotFound(
            f"there is no folder {text}: give the path of a checkpoint folder, or the name of a "
            f"pulled base ({found})",
            param="base",
        )
    hint = near(text.replace("/", "--"), there)
    raise BaseNotFound(
        f"no base {text!r}{hint}\nPull it with `hatstand base pull {text}` ({found}), "
        "or give the path of a checkpoint folder.",
        param="base",
    )


def pulled_bases() -> list[Path]:
    """The folders of the bases in the cache, whose names `find_base` takes, sorted."""
    with contextlib.suppress(OSError):
        return sorted(entry for entry in base_cache().iterdir() if _is_checkpoint(entry))
    return []


def _is_checkpoint(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file()
    except (OSError, ValueError):  # such as a name with a null byte, or too long
        return False


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        text = path.read_bytes()
    except OSError as failure:
        reason = failure.strerror or str(failure)
        raise InvalidBase(f"{path}: {reason}; is this a checkpoint?", param="config.json") from None
    return parse_object(text, source="config.json", error=InvalidBase)
