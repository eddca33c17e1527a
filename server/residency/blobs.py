"""Read an adapter's file into host memory as it is; a kernel lays it out on the device."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from registry.adapters import AdapterSpec
from server.engine.arena import Blob, FactorPlace, blob_table, places_of, projections_of
from server.engine.config import ModelConfig
from server.engine.request import AdapterRef
from server.kernels.triton.pieces import Pieces
from server.residency.pinned import Extent, PinnedMemory

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
LENGTH_BYTES = 8  # of safetensors' header length, at the beginning


@dataclass(frozen=True)
class _Stored:
    """An adapter's tensors in host memory: one dtype, and each one's first element by name."""

    memory: Extent
    dtype: torch.dtype
    starts: Mapping[str, int]


@dataclass(frozen=True)
class BlobPacker:
    """Reads adapters for a device's arena. Called by the loader's threads."""

    memory: PinnedMemory

    def __call__(
        self, adapter: AdapterRef, weights: Path, spec: AdapterSpec, config: ModelConfig
    ) -> Blob:
        """Read `adapter_model.safetensors`; ValueError if it is not what `spec` says."""
        ranks = {name: module.rank for name, module in spec.modules.items()}
        places, elements = places_of(config, ranks)
        stored = self._read(weights, spec)
        numbers, scales = [], []
        for start, scale, factor in _factors(places, spec, config, stored.starts):
            numbers.append((start, *factor))
            scales.append(scale)
        pieces = Pieces(
            torch.tensor(numbers, dtype=torch.int64),
            torch.tensor(scales, dtype=torch.float32),
            max(rank * length for _, _, rank, length, _ in numbers),
        )
        return Blob(
            digest=adapter.digest,
            label=adapter.label,
            rank=spec.max_rank,
            memory=stored.memory,
            data=stored.memory.data.view(stored.dtype),
            pieces=pieces,
            table=blob_table(config, places),
            num_elements=elements,
        )

    def _read(self, weights: Path, spec: AdapterSpec) -> _Stored:
        header, begin = _read_header(weights)
        for name, shape in spec.tensors.items():
            if name not in header:
                raise ValueError(f"{weights.name} lacks {name}")
            if tuple(header[name]["shape"]) != shape:
                raise ValueError(
                    f"{name} has shape {header[name]['shape']}, expected {list(shape)}"
                )
        kinds = {header[name]["dtype"] for name in spec.tensors}
        if len(kinds) > 1 or not kinds <= DTYPES.keys():
            return self._read_converted(weights, spec)
        dtype = DTYPES[kinds.pop()]
        starts = {name: header[name]["data_offsets"][0] // dtype.itemsize for name in spec.tensors}
        extent = self.memory.allocate(weights.stat().st_size - begin)
        with weights.open("rb", buffering=0) as file:
            file.seek(begin)
            _fill(file, memoryview(extent.data.numpy()))  # type: ignore[arg-type]
        return _Stored(extent, dtype, starts)

    def _read_converted(self, weights: Path, spec: AdapterSpec) -> _Stored:
        """Tensors of several or of unusual dtypes, brought to fp32."""
        starts, end = {}, 0
        for name, (rows, columns) in spec.tensors.items():
            starts[name] = end
            end += rows * columns
        extent = self.memory.allocate(4 * end)
        data = extent.data.view(torch.float32)
        with safe_open(weights, framework="pt", device="cpu") as file:
            for name, start in starts.items():
                tensor = file.get_tensor(name)
                data[start : start + tensor.numel()] = tensor.flatten().float()
        return _Stored(extent, torch.float32, starts)


def _read_header(weights: Path) -> tuple[dict[str, Any], int]:
    """What a safetensors file holds, and where its data begins."""
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    return header, LENGTH_BYTES + length


def _fill(file: Any, buffer: memoryview) -> None:
    """Read until the buffer is full; a single read may bring less."""
    read = 0
    while read < len(buffer):
        count = file.readinto(buffer[read:])
        if not count:
            raise ValueError("the weights file ends before its header says")
        read += count


def _factors(
    places: list[FactorPlace], spec: AdapterSpec, config: ModelConfig, starts: Mapping[str, int]
) -> Iterator[tuple[int, float, tuple[int, int, int, int]]]:
    """(first element in the file, scale, (first in the slot, rank, features, is it a B))."""
    names = {(site, part): (layer, name) for site, part, layer, name in projections_of(config)}
    for place in places:
        layer, name = names[place.site, place.part]
        module = spec.modules[layer, name]
        a, b = (starts[spec.tensor_name(layer, name, part)] for part in ("lora_A", "lora_B"))
        yield a, 1.0, (place.shrink, place.rank, module.in_features, 0)
        yield b, module.scaling, (place.expand, place.rank, module.out_features, 1)
