"""Slots on a device: a stretch of memory each, which one copy and one kernel fill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from registry.adapters import Projection
from server.engine.config import GROUPS, ModelConfig
from server.engine.marks import Mark, Passed, set_mark
from server.engine.slots import Site
from server.engine.step_kernels import Unpack
from server.kernels.triton.pieces import Pieces
from server.kernels.triton.site import EXPAND, MAX_PARTS, RANK, SHRINK, LoraSite

AT_ONCE = 8 * 2**20  # bytes that nothing else on the link can overtake, 0.15 ms
ALIGNMENT = 16  # elements; where every factor begins, as the kernels' widest loads want it


@dataclass(frozen=True)
class Blob:
    """An adapter in host memory as its file has it, and how its slot wants it.

    memory: what `data` lies in, kept for as long as the blob. data: [elements] in the file's dtype,
    pinned where there is a device. table: [sites, parts, 3] int64, what `LoraSite.table` holds for
    one slot, offsets counted from the slot's beginning. num_elements: what it takes of the slot.
    """

    digest: str
    label: str
    rank: int
    memory: object
    data: torch.Tensor
    pieces: Pieces
    table: torch.Tensor
    num_elements: int

    @property
    def nbytes(self) -> int:
        return self.data.nbytes + self.table.nbytes + self.pieces.numbers.nbytes


@dataclass(frozen=True)
class FactorPlace:
    """Where one projection's factors lie in a slot: A [rank, in], then B [rank, out], scaled."""

    site: int
    part: int
    shrink: int
    expand: int
    rank: int

    @classmethod
    def after(cls, end: int, *, site: int, part: int, rank: int, into: int) -> FactorPlace:
        """Placed at `end`, for an input of `into` features."""
        return cls(site, part, end, end + _aligned(rank * into), rank)

    def end(self, out: int) -> int:
        return self.expand + _aligned(self.rank * out)


def projections_of(config: ModelConfig) -> Iterator[tuple[int, int, int, Projection]]:
    """(site's number, part, layer, projection) of every projection, in the order of a slot."""
    for layer in range(config.num_layers):
        for group_index, projections in enumerate(GROUPS.values()):
            for part, projection in enumerate(projections):
                yield layer * len(GROUPS) + group_index, part, layer, projection


def places_of(
    config: ModelConfig, ranks: Mapping[tuple[int, Projection], int]
) -> tuple[list[FactorPlace], int]:
    """Where each adapted projection's factors lie, and how many elements they take together.

    ranks: by (layer, projection).
    """
    places, end = [], 0
    for site, part, layer, projection in projections_of(config):
        rank = ranks.get((layer, projection), 0)
        if rank:
            out, into = config.projection_shape(projection)
            places.append(FactorPlace.after(end, site=site, part=part, rank=rank, into=into))
            end = places[-1].end(out)
    return places, end


def slot_elements(config: ModelConfig, rank: int) -> int:
    """Elements of a slot that takes an adapter of this rank on every projection."""
    ranks = {(layer, name): rank for _, _, layer, name in projections_of(config)}
    return places_of(config, ranks)[1]


class Arena:
    """All slots' factors in one tensor, and a table that says where each one's lie.

    Copies run on a stream of their own beside the steps; a slot may be used once its copy has
    arrived. An adapter takes what its own ranks need of its slot.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        num_slots: int,
        max_rank: int,
        dtype: torch.dtype,
        device: torch.device,
        unpack: Unpack,
    ) -> None:
        self.num_slots = num_slots
        self._unpack = unpack
        self._config = config
        self._max_rank = max_rank
        self._device = device
        self._slot_elements = slot_elements(config, max_rank)
        num_sites = config.num_layers * len(GROUPS)
        self._data = torch.empty(num_slots * self._slot_elements, dtype=dtype, device=device)
        self._table = torch.zeros(
            (num_slots, num_sites, MAX_PARTS, 3), dtype=torch.int64, device=device
        )
        self._ranks = [0] * num_slots
        self._arrivals: list[Mark] = [Passed() for _ in range(num_slots)]
        self._stream = _new_stream(device) if device.type == "cuda" else None

    @property
    def nbytes(self) -> int:
        return self._data.nbytes + self._table.nbytes

    def sites(self) -> dict[Site, LoraSite]:
        """How the kernels find every site's factors."""
        sites = {}
        for layer in range(self._config.num_layers):
            for index, (group, projections) in enumerate(GROUPS.items()):
                widths = tuple(self._config.projection_shape(name)[0] for name in projections)
                table = self._table[:, layer * len(GROUPS) + index, : len(widths)]
                sites[layer, group] = LoraSite(self._data, table, widths, self._max_rank)
        return sites

    def write(self, slot: int, adapter: Blob) -> None:
        """Begin to put an adapter into a slot that no sequence uses."""
        start = slot * self._slot_elements
        into = self._data[start : start + adapter.num_elements]
        with self._on_own_stream():
            numbers, scales = self._send(adapter.pieces.numbers), self._send(adapter.pieces.scales)
            data, table = self._send(adapter.data), self._send(adapter.table)
        self._wait_for_steps()
        with self._on_own_stream():
            pieces = Pieces(numbers, scales, adapter.pieces.longest)
            self._unpack(into, data, pieces)
            self._table[slot].copy_(table)
            self._table[slot, :, :, SHRINK : EXPAND + 1] += start
            self._arrivals[slot] = set_mark(self._device)
        self._ranks[slot] = int(adapter.table[:, :, RANK].sum(1).max())

    def ranks(self, slot: int) -> int:
        """Of what was written last, those of all parts of its widest site together."""
        return self._ranks[slot]

    def has_arrived(self, slot: int) -> bool:
        """Whether what was written last may be used."""
        return self._arrivals[slot].has_passed()

    def _send(self, tensor: torch.Tensor) -> torch.Tensor:
        """On the device, by the current stream, in pieces between which steps' own copies pass."""
        if self._device.type == "cuda" and not tensor.is_pinned():
            tensor = tensor.pin_memory()
        sent = torch.empty_like(tensor, device=self._device)
        rows = max(1, AT_ONCE // max(1, tensor[:1].nbytes))
        for start in range(0, len(tensor), rows):
            piece = slice(start, start + rows)
            sent[piece].copy_(tensor[piece], non_blocking=True)
        return sent

    def _wait_for_steps(self) -> None:
        """Those under way: one may still read the slot for a sequence that has ended meanwhile.

        What goes over the link does not wait: it would set out exactly when the next step does,
        whose own few bytes would then come behind it.
        """
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))

    def _on_own_stream(self) -> AbstractContextManager[object]:
        """Copies run beside the steps."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


def _new_stream(device: torch.device) -> torch.cuda.Stream:
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream


def blob_table(config: ModelConfig, places: list[FactorPlace]) -> torch.Tensor:
    """`Blob.table` for factors at these places."""
    table = torch.zeros((config.num_layers * len(GROUPS), MAX_PARTS, 3), dtype=torch.int64)
    for place in places:
        entry = table[place.site, place.part]
        entry[SHRINK], entry[EXPAND], entry[RANK] = place.shrink, place.expand, place.rank
    return table


def _aligned(elements: int) -> int:
    return -(-elements // ALIGNMENT) * ALIGNMENT
