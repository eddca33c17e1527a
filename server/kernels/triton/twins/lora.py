"""Many LoRA adapters in one batch: the definition."""

from __future__ import annotations

import torch
from torch.nn.functional import linear

from server.kernels.triton.delta import LoraDelta
from server.kernels.triton.site import EXPAND, RANK, SHRINK, LoraSite
from server.kernels.triton.tiles import LoraTiles


def add_lora(y: torch.Tensor, x: torch.Tensor, site: LoraSite, tiles: LoraTiles) -> None:
    """`y` [rows, Σ widths] += each row's own `B(A(x))`, in place; `x`: [rows, in_features].

    A(x) is rounded to the compute dtype, the sum with `y` once.
    """
    for slot, rows in zip(tiles.slots.tolist(), tiles.rows.tolist(), strict=True):
        members = torch.tensor([row for row in rows if row >= 0], device=y.device)
        if slot < 0 or not len(members):
            continue
        column = 0
        for part, width in enumerate(site.widths):
            shrink, expand = factors(site, slot, part, x.shape[1])
            own = y[members, column : column + width]
            added = torch.addmm(own, linear(x[members], shrink), expand)
            y[members, column : column + width] = added
            column += width


def add_lora_invariant(y: torch.Tensor, x: torch.Tensor, site: LoraSite, tiles: LoraTiles) -> None:
    """The same: only the order of sums differs."""
    add_lora(y, x, site, tiles)


def shrink_beside(
    x: torch.Tensor, site: LoraSite, tiles: LoraTiles, row_slots: torch.Tensor
) -> LoraDelta:
    """`A(x)` of each row's own adapter, for the next kernel to expand; `x`: [rows, in_features]."""
    partial = torch.zeros(1, site.parts, len(x), site.max_rank, device=x.device)
    for slot, rows in zip(tiles.slots.tolist(), tiles.rows.tolist(), strict=True):
        members = torch.tensor([row for row in rows if row >= 0], device=x.device)
        if slot < 0 or not len(members):
            continue
        for part in range(site.parts):
            shrink, _ = factors(site, slot, part, x.shape[1])
            partial[0, part, members, : len(shrink)] = linear(x[members], shrink).float()
    return LoraDelta(partial, row_slots, site)


def expanded(y: torch.Tensor, delta: LoraDelta | None) -> torch.Tensor:
    """`y` [rows, Σ widths] plus each row's own `B(A(x))`, rounded once; `y` itself without one."""
    if delta is None:
        return y
    result, site = y.clone(), delta.site
    shrunk = delta.partial.sum(0).to(y.dtype)
    for row, slot in enumerate(delta.row_slots.tolist()):
        column = 0
        for part, width in enumerate(site.widths):
            if slot >= 0:
                _, expand = factors(site, slot, part, 0)
                own = y[row : row + 1, column : column + width]
                added = torch.addmm(own, shrunk[part, row : row + 1, : len(expand)], expand)
                result[row, column : column + width] = added[0]
            column += width
    return result


def factors(
    site: LoraSite, slot: int, part: int, in_features: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A [rank, in] and B [rank, width] of one slot and part, as views of the arena."""
    entry = site.table[slot, part].tolist()
    rank, width = entry[RANK], site.widths[part]
    shrink = site.arena[entry[SHRINK] :][: rank * in_features].view(rank, in_features)
    expand = site.arena[entry[EXPAND] :][: rank * width].view(rank, width)
    return shrink, expand
