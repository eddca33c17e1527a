"""Reading safetensors without trusting them: every bound is checked before anything is read.

The layout (https://huggingface.co/docs/safetensors): 8 bytes of little-endian header length, that
many bytes of JSON, then the tensors' bytes, contiguous and in no gaps.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import TensorRefused
from .half_floats import from_bfloat16, from_float16
from .scratch import Scratch

MAX_HEADER = 100_000_000  # bytes, the reference reader's own limit
_LENGTH = struct.Struct("<Q")

# Bytes per element.
DTYPE_SIZES: Mapping[str, int] = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "F64": 8,
    "I64": 8,
    "U64": 8,
}


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies: `start` and `end` are byte offsets from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class SafetensorsFile:
    """A file whose header has been checked whole."""

    path: Path
    name: str
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]

    @classmethod
    def open(cls, path: Path, *, name: str | None = None) -> SafetensorsFile:
        """Read and check the header; raises `TensorRefused` naming the tensor or the file.

        `name` is what errors call the file, where the path says nothing to a reader.
        """
        label = name or path.name
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(_LENGTH.size)
            if len(prefix) < _LENGTH.size:
                raise _refusal(label, f"truncated: {size} bytes, not even a header length")
            length = _LENGTH.unpack(prefix)[0]
            if length > MAX_HEADER:
                raise _refusal(label, f"its header claims {length} bytes, over {MAX_HEADER}")
            if _LENGTH.size + length > size:
                raise _refusal(
                    label, f"truncated: the header claims {length} bytes in a file of {size}"
                )
            header = file.read(length)
        values = _parse_header(label, header)
        metadata = _metadata(label, values.pop("__metadata__", {}))
        tensors = [_tensor(name, value, _LENGTH.size + length) for name, value in values.items()]
        _check_layout(label, tensors, _LENGTH.size + length, size)
        return cls(path, label, {tensor.name: tensor for tensor in tensors}, metadata)

    def read(self, name: str, scratch: Scratch | None = None) -> NDArray[np.float32]:
        """One floating-point tensor as float32, which holds its values exactly; from any thread.

        With `scratch` it lies there, until the next is read into it. Raises `TensorRefused` for a
        dtype other than F32, F16 and BF16, or a file that shrank.
        """
        tensor = self.tensors[name]
        if tensor.dtype not in ("F32", "F16", "BF16"):
            raise TensorRefused(
                f"tensor {name} is {tensor.dtype}; adapters are F32, F16 or BF16", param=name
            )
        scratch = scratch or Scratch()
        content = scratch.bytes(tensor.end - tensor.start)
        with self.path.open("rb") as file:
            file.seek(tensor.start)
            if file.readinto(content.data) != content.size:
                raise _refusal(self.name, f"truncated while reading {name}")
        if tensor.dtype == "F32":
            return content.view("<f4").reshape(tensor.shape)
        wide = scratch.floats(math.prod(tensor.shape))
        if tensor.dtype == "F16":
            from_float16(content.view("<f2"), wide)
        else:
            from_bfloat16(content.view("<u2"), wide)
        return wide.reshape(tensor.shape)


def _refusal(file: str, reason: str) -> TensorRefused:
    return TensorRefused(f"{file} is not a sound safetensors file: {reason}", param=file)


def _parse_header(file: str, header: bytes) -> dict[str, Any]:
    if not header.startswith(b"{"):
        raise _refusal(file, "its header is not a JSON object")
    try:
        values = json.loads(header, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as failure:
        raise _refusal(file, f"its header is not JSON: {failure}") from None
    assert isinstance(values, dict)
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two entries of one name would let two readers see two different files."""
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"{name[:80]!a} is there twice")
        values[name] = value
    return values


def _metadata(file: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise _refusal(file, "__metadata__ must map text to text")
    return value


def _tensor(name: str, value: object, data_start: int) -> TensorInfo:
    """Check one header entry on its own; offsets become absolute."""

    def refused(reason: str) -> TensorRefused:
        return TensorRefused(f"tensor {name[:200]}: {reason}", param=name[:200])

    if not name.isprintable():
        raise TensorRefused(f"tensor {name[:80]!a}: not a printable name", param="adapter_model")
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise refused("its entry must hold dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_SIZES:
        raise refused(f"unknown dtype {str(dtype)[:40]!r}")
    if not _are_sizes(shape) or len(shape) > 8:
        raise refused("its shape must be a list of at most 8 sizes")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise refused("data_offsets must be [start, end]")
    needed = math.prod(shape) * DTYPE_SIZES[dtype]
    if offsets[1] - offsets[0] != needed:
        raise refused(
            f"{dtype} of shape {shape} needs {needed} bytes, its offsets span "
            f"{offsets[1] - offsets[0]}"
        )
    return TensorInfo(name, dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 1 << 48
        for item in value
    )


def _check_layout(file: str, tensors: list[TensorInfo], data_start: int, size: int) -> None:
    """Tensors must fill the rest of the file without gap or overlap: nothing can hide in it."""
    position = data_start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.end)):
        if tensor.start != position:
            kind = "overlaps the one before" if tensor.start < position else "leaves a gap before"
            raise TensorRefused(f"tensor {tensor.name[:200]} {kind}", param=tensor.name[:200])
        position = tensor.end
    if position > size:
        raise _refusal(file, f"truncated: tensors end at byte {position}, the file at {size}")
    if position < size:
        raise _refusal(file, f"{size - position} bytes follow the last tensor")
