"""Slots: where the factors of adapters lie while they can be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from server.engine.config import GROUPS, ModelConfig
from server.kernels.lora import MULTIPLE, LoraSegment, LoraStack, add_segment, add_stack

MAX_STACKED = 16  # adapters multiplied at once; beyond this each goes by itself
Site = tuple[int, str]
"""A layer's index and the group of projections in it."""


@dataclass(frozen=True)
class Factors:
    """One adapter's part at one site. shrink: [rank, in]; expand: [rank, out], scaled.

    ranks: how many of the rows, in order, belong to each of the projections that were merged; in
    `expand` they are zero outside that projection's columns.
    """

    shrink: torch.Tensor
    expand: torch.Tensor
    ranks: tuple[int, ...]

    @property
    def rank(self) -> int:
        return self.shrink.shape[0]


@dataclass(frozen=True)
class PackedAdapter:
    """An adapter in host memory, laid out as slots hold it; absent sites are untouched."""

    digest: str
    label: str
    rank: int
    sites: Mapping[Site, Factors]

    @property
    def nbytes(self) -> int:
        return sum(f.shrink.nbytes + f.expand.nbytes for f in self.sites.values())


class SlotPool:
    """`[slots, rank rows, ·]` factors for every site, and which rows each slot really uses.

    A merged group of p projections has up to p · max_rank rows, in multiples of MULTIPLE.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        num_slots: int,
        max_rank: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.num_slots = num_slots
        self.max_rank = max_rank
        self._shrink: dict[Site, torch.Tensor] = {}
        self._expand: dict[Site, torch.Tensor] = {}
        self._filled: dict[Site, list[Factors]] = {}  # by slot: the rows in use
        for layer in range(config.num_layers):
            for group, projections in GROUPS.items():
                out_features, in_features = config.group_shape(group)
                rows = _whole(len(projections) * max_rank)
                site = (layer, group)
                self._shrink[site] = torch.empty(
                    num_slots, rows, in_features, dtype=dtype, device=device
                )
                self._expand[site] = torch.empty(
                    num_slots, rows, out_features, dtype=dtype, device=device
                )
                self._filled[site] = [self._rows(site, slot, ()) for slot in range(num_slots)]
        self._stacks: _StackCache = _StackCache(self)

    @property
    def sites(self) -> Sequence[Site]:
        return list(self._shrink)

    def write(self, slot: int, adapter: PackedAdapter) -> None:
        """Put an adapter into a slot, over whatever was there."""
        self._stacks.forget(slot)
        for site, filled in self._filled.items():
            factors = adapter.sites.get(site)
            ranks = factors.ranks if factors else ()
            filled[slot] = self._rows(site, slot, ranks)
            if factors:
                assert sum(ranks) == factors.rank
                _fill(filled[slot].shrink, factors.shrink)
                _fill(filled[slot].expand, factors.expand)

    def has_arrived(self, slot: int) -> bool:  # noqa: ARG002
        """Whether what was written last may be used: here, writing has an end."""
        return True

    def factors(self, site: Site, slot: int) -> Factors:
        """The slot's own rows at a site, and zeros up to a whole number of MULTIPLE; none if its
        adapter leaves the site alone.
        """
        return self._filled[site][slot]

    def _rows(self, site: Site, slot: int, ranks: tuple[int, ...]) -> Factors:
        rows = _whole(sum(ranks))
        return Factors(self._shrink[site][slot, :rows], self._expand[site][slot, :rows], ranks)

    def plan(self, row_slots: Sequence[int | None], num_decoding: int) -> LoraPlan:
        """How the rows of a batch reach their adapters.

        row_slots: each row's slot, None for the bare base; the first `num_decoding` rows are
        single tokens of many sequences, the rest are runs of prompt tokens.
        """
        decoding = row_slots[:num_decoding]
        used = sorted({slot for slot in decoding if slot is not None})
        if 1 < len(used) <= MAX_STACKED:
            stack = self._stacks.cover(used, decoding)
            return LoraPlan(self, stack, _runs(row_slots, start=num_decoding))
        return LoraPlan(self, None, _runs(row_slots, start=0))


def _whole(rank: int) -> int:
    """The rank, rounded up to a multiple of MULTIPLE."""
    return -(-rank // MULTIPLE) * MULTIPLE


def _fill(rows: torch.Tensor, own: torch.Tensor) -> None:
    rows[: len(own)].copy_(own)
    rows[len(own) :].zero_()


@dataclass(frozen=True)
class LoraPlan:
    """Adds every row's adapter to a projection's output."""

    pool: SlotPool
    stack: Mapping[Site, LoraStack] | None
    runs: Sequence[tuple[int, int, int]]  # (start, stop, slot)

    def add(self, site: Site, y: torch.Tensor, x: torch.Tensor) -> None:
        """`y` [tokens, out] += each row's own LoRA of `x` [tokens, in]."""
        if self.stack is not None and site in self.stack:
            add_stack(y, x, self.stack[site])
        for start, stop, slot in self.runs:
            factors = self.pool.factors(site, slot)
            if factors.rank:
                add_segment(y, x, LoraSegment(start, stop, factors.shrink, factors.expand))


def _runs(row_slots: Sequence[int | None], *, start: int) -> list[tuple[int, int, int]]:
    """Maximal runs of consecutive rows with the same slot, rows of the bare base left out."""
    runs: list[tuple[int, int, int]] = []
    for row in range(start, len(row_slots)):
        slot = row_slots[row]
        if slot is None:
            continue
        if runs and runs[-1][1] == row and runs[-1][2] == slot:
            runs[-1] = (runs[-1][0], row + 1, slot)
        else:
            runs.append((row, row + 1, slot))
    return runs


@dataclass
class _StackCache:
    """The slots decoding together, their factors one below the other.

    Joining a batch copies every stacked adapter once; leaving it costs nothing, because the rows
    of a slot that nobody uses are masked. Forgotten when one of its slots is rewritten.
    """

    pool: SlotPool
    slots: tuple[int, ...] = ()
    factors: dict[Site, Factors] = field(default_factory=dict)
    masks: dict[tuple[int | None, ...], dict[Site, LoraStack]] = field(default_factory=dict)

    def cover(self, used: Sequence[int], rows: Sequence[int | None]) -> dict[Site, LoraStack]:
        """Stacks that hold the `used` slots, masked for `rows`."""
        if not set(used) <= set(self.slots):
            self._build(tuple(used))
        key = tuple(rows)
        if key not in self.masks:
            self.masks = {key: self._mask(rows)}
        return self.masks[key]

    def forget(self, slot: int) -> None:
        if slot in self.slots:
            self.slots, self.factors, self.masks = (), {}, {}

    def _build(self, slots: tuple[int, ...]) -> None:
        self.slots, self.factors, self.masks = slots, {}, {}
        for site in self.pool.sites:
            parts = [self.pool.factors(site, slot) for slot in slots]
            if any(part.rank for part in parts):
                self.factors[site] = Factors(
                    torch.cat([part.shrink for part in parts]),
                    torch.cat([part.expand for part in parts]),
                    sum((part.ranks for part in parts), ()),
                )

    def _mask(self, rows: Sequence[int | None]) -> dict[Site, LoraStack]:
        by_ranks: dict[tuple[int, ...], torch.Tensor] = {}
        stacks = {}
        for site, factors in self.factors.items():
            ranks = tuple(self.pool.factors(site, slot).rank for slot in self.slots)
            if ranks not in by_ranks:
                owner = torch.tensor(
                    [s for s, r in zip(self.slots, ranks, strict=True) for _ in range(r)]
                )
                wanted = torch.tensor([-1 if slot is None else slot for slot in rows])
                foreign = wanted[:, None] != owner[None, :]
                by_ranks[ranks] = foreign.to(factors.shrink.device)
            stacks[site] = LoraStack(factors.shrink, factors.expand, by_ranks[ranks])
        return stacks
