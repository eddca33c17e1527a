"""The product of rows that all have one adapter: the definition."""

from __future__ import annotations

import torch
from torch.nn.functional import linear as product

from server.kernels.linear import Unpacking
from server.kernels.triton.room import with_room
from server.kernels.triton.site import LoraSite
from server.kernels.triton.tiles import LoraTiles
from server.kernels.triton.twins.lora import factors


def adapted_product(
    x: torch.Tensor, linear: Unpacking, site: LoraSite, tiles: LoraTiles
) -> torch.Tensor:
    """`x` [rows, in_features] times the weight, plus `B(A(x))` of the adapter that all rows have.

    x: of `room.empty_rows`, with columns behind each row that are written here; the ranks of a
    site's parts have to fit into them together. tiles: of that adapter alone, or all of slot -1;
    rows in none come out as anything. A(x) is rounded to the compute dtype, the result once.
    """
    features, slot = x.shape[1], int(tiles.slots[0])
    wide = with_room(x)
    parts = [factors(site, slot, part, features) for part in range(site.parts) if slot >= 0]
    behind = [product(x, shrink) for shrink, _ in parts]
    wide[:, features:] = 0
    if parts:
        shrunk = torch.cat(behind, dim=1)
        wide[:, features : features + shrunk.shape[1]] = shrunk
    out = x.new_empty(len(x), linear.out_features)
    expand = torch.block_diag(*[expand for _, expand in parts]).to(x)  # [Σ ranks, out_features]
    for start, dense in linear.pieces(x.dtype, room=wide.shape[1] - features):
        rows = slice(start, start + len(dense))
        dense[:, features:] = 0
        if parts:
            dense[:, features : features + len(expand)] = expand[:, rows].T
        out[:, rows] = product(wide, dense)
    return out
