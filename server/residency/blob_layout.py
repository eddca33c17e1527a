"""Where an adapter's factors lie in its file, and where its slot wants them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from registry.adapters import AdapterSpec
from server.engine.arena import FactorPlace, blob_table, places_of, projections_of
from server.engine.config import ModelConfig
from server.kernels.triton.pieces import Pieces
from server.residency.stored_file import Header

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
CONVERTED = torch.float32  # what tensors of several or of unusual dtypes are brought to
METADATA = "__metadata__"  # in a header, beside the tensors' names
MOST_LAYOUTS = 64  # remembered


@dataclass(frozen=True)
class BlobLayout:
    """What every adapter with the same header and configuration has in common.

    starts: each tensor's first element in host memory, by name. num_bytes: of the file's data.
    is_converted: whether it cannot be taken as it is. pieces, table, num_elements: as `Blob` has
    them.
    """

    dtype: torch.dtype
    is_converted: bool
    num_bytes: int
    starts: Mapping[str, int]
    pieces: Pieces
    table: torch.Tensor
    num_elements: int

    @classmethod
    def of(cls, header: Header, spec: AdapterSpec, config: ModelConfig) -> BlobLayout:
        """ValueError if the file is not what `spec` says."""
        _check_shapes(header, spec)
        kinds = {header.tensors[name]["dtype"] for name in spec.tensors}
        is_converted = len(kinds) > 1 or not kinds <= DTYPES.keys()
        dtype = CONVERTED if is_converted else DTYPES[kinds.pop()]
        starts = _one_by_one(spec) if is_converted else _as_stored(header, spec, dtype)
        num_bytes = max(tensor["data_offsets"][1] for tensor in _described(header))
        ranks = {name: module.rank for name, module in spec.modules.items()}
        places, elements = places_of(config, ranks)
        pieces = _pieces(places, spec, config, starts)
        return cls(
            dtype=dtype,
            is_converted=is_converted,
            num_bytes=num_bytes,
            starts=starts,
            pieces=pieces,
            table=blob_table(config, places),
            num_elements=elements,
        )

    def pinned(self) -> BlobLayout:
        """The same in page-locked memory, from which copies do not hold their thread up."""
        numbers, scales = self.pieces.numbers.pin_memory(), self.pieces.scales.pin_memory()
        pieces = Pieces(numbers, scales, self.pieces.longest)
        return replace(self, pieces=pieces, table=self.table.pin_memory())


@dataclass
class BlobLayouts:
    """Layouts that were worked out before: most adapters of a base are trained by few recipes.

    Working one out takes milliseconds of Python, for which the engine's thread would have to wait.
    Called by several threads, which at worst work one out twice.
    """

    pin: bool
    _known: OrderedDict[tuple[object, ...], BlobLayout] = field(default_factory=OrderedDict)

    def find(self, header: Header, spec: AdapterSpec, config: ModelConfig) -> BlobLayout:
        """ValueError if the file is not what `spec` says."""
        key = (header.raw, config, *spec.modules.items())
        layout = self._known.get(key)
        if layout is None:
            layout = BlobLayout.of(header, spec, config)
            layout = layout.pinned() if self.pin else layout
            self._known[key] = layout
            if len(self._known) > MOST_LAYOUTS:
                self._known.popitem(last=False)
        return layout


def _check_shapes(header: Header, spec: AdapterSpec) -> None:
    for name, shape in spec.tensors.items():
        if name not in header.tensors:
            raise ValueError(f"the weights file lacks {name}")
        stored = header.tensors[name]["shape"]
        if tuple(stored) != shape:
            raise ValueError(f"{name} has shape {stored}, expected {list(shape)}")


def _described(header: Header) -> list[dict[str, Any]]:
    """What the header says of each tensor; beside them it may say things about the file."""
    return [tensor for name, tensor in header.tensors.items() if name != METADATA]


def _as_stored(header: Header, spec: AdapterSpec, dtype: torch.dtype) -> dict[str, int]:
    """ValueError where a tensor's bytes are not as many as its shape says."""
    starts = {}
    for name, (rows, columns) in spec.tensors.items():
        begin, end = header.tensors[name]["data_offsets"]
        if end - begin != rows * columns * dtype.itemsize or begin % dtype.itemsize:
            raise ValueError(f"{name} lies at bytes {begin} to {end}, which are not its shape's")
        starts[name] = begin // dtype.itemsize
    return starts


def _one_by_one(spec: AdapterSpec) -> dict[str, int]:
    starts, end = {}, 0
    for name, (rows, columns) in spec.tensors.items():
        starts[name] = end
        end += rows * columns
    return starts


def _pieces(
    places: list[FactorPlace], spec: AdapterSpec, config: ModelConfig, starts: Mapping[str, int]
) -> Pieces:
    numbers, scales = [], []
    for start, scale, factor in _factors(places, spec, config, starts):
        numbers.append((start, *factor))
        scales.append(scale)
    return Pieces(
        torch.tensor(numbers, dtype=torch.int64),
        torch.tensor(scales, dtype=torch.float32),
        max(rank * length for _, _, rank, length, _ in numbers),
    )


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
