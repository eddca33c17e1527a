"""Random inputs for the step's kernels, on any device: what kernels and twins are both given."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from server.kernels.triton.chunks import PromptChunks
from server.kernels.triton.row_sampling import RowSampling
from server.kernels.triton.site import LoraSite

BLOCK_SIZE = 16
POISON = float("nan")


def normal(
    *shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu", std: float = 1.0
) -> torch.Tensor:
    return (torch.randn(*shape, device=device) * std).to(dtype)


def error(result: torch.Tensor, expected: torch.Tensor) -> float:
    """‖result − expected‖ / ‖expected‖; infinite if anything is not finite."""
    result, expected = result.double(), expected.double()
    relative = float((result - expected).norm() / expected.norm().clamp(min=1e-30))
    return relative if result.isfinite().all() else float("inf")


@dataclass(frozen=True)
class Dtypes:
    """A compute dtype, and the relative error that its rounding explains."""

    dtype: torch.dtype
    tolerance: float


def make_site(
    ranks: Sequence[Sequence[int]],
    in_features: int,
    widths: tuple[int, ...],
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> LoraSite:
    """Random adapters with these ranks [slot][part], one after the other; gaps hold NaN."""
    table, end = [], 0
    for slot in ranks:
        for rank, width in zip(slot, widths, strict=True):
            shrink, expand = end, end + rank * in_features
            table.append((shrink, expand, rank))
            end = expand + rank * width + 16 * 5
    arena = torch.full((end + 1,), POISON, device=device, dtype=dtype)
    for index, (shrink, expand, rank) in enumerate(table):
        width = widths[index % len(widths)]
        arena[shrink : shrink + rank * in_features].normal_(std=in_features**-0.5)
        arena[expand : expand + rank * width].normal_(std=max(rank, 1) ** -0.5)
    entries = torch.tensor(table, dtype=torch.int64, device=device)
    highest = max(rank for slot in ranks for rank in slot)
    return LoraSite(arena, entries.view(len(ranks), len(widths), 3), widths, highest)


def make_cache(
    blocks: int, kv_heads: int, head_dim: int, *, dtype: torch.dtype, device: str = "cpu"
) -> torch.Tensor:
    """One layer's paged keys and values."""
    return normal(2, blocks, BLOCK_SIZE, kv_heads, head_dim, device=device).to(dtype)


def make_tables(lengths: Sequence[int], *, device: str = "cpu") -> tuple[torch.Tensor, int]:
    """Block tables [rows, blocks] int32 over shuffled blocks, and how many blocks there are.

    Block 0 is nobody's; entries beyond a row's context name it.
    """
    counts = [-(-length // BLOCK_SIZE) for length in lengths]
    order = list(range(1, sum(counts) + 1))
    random.Random(0).shuffle(order)
    tables = torch.zeros(len(lengths), max(*counts, 1), dtype=torch.int32)
    for row, count in enumerate(counts):
        taken, order = order[:count], order[count:]
        tables[row, :count] = torch.tensor(taken, dtype=torch.int32)
    return tables.to(device), sum(counts) + 1


def make_chunks(
    pairs: Sequence[tuple[int, int]], *, device: str = "cpu"
) -> tuple[PromptChunks, int]:
    """Chunks of (queries, context length) each, and how many blocks their cache has."""
    tables, blocks = make_tables([length for _, length in pairs], device=device)
    counts = torch.tensor([0, *[count for count, _ in pairs]])
    return (
        PromptChunks(
            starts=counts.cumsum(0).int().to(device),
            context_lengths=torch.tensor([n for _, n in pairs], dtype=torch.int32, device=device),
            block_tables=tables,
            longest=max(count for count, _ in pairs),
        ),
        blocks,
    )


def make_sampling(
    rows: Sequence[tuple[float, int, float, float]], *, device: str = "cpu"
) -> RowSampling:
    """Rows of (temperature, top_k, top_p, min_p), seeded by their number."""
    temperature, top_k, top_p, min_p = zip(*rows, strict=True)
    return RowSampling(
        temperature=torch.tensor(temperature, device=device),
        top_k=torch.tensor(top_k, dtype=torch.int32, device=device),
        top_p=torch.tensor(top_p, device=device),
        min_p=torch.tensor(min_p, device=device),
        seeds=torch.arange(len(rows), device=device) * 0x1_2345_6789 - 3,
    )
