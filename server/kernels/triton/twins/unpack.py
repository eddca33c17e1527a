"""Bring an adapter's factors from the order of its file into that of its slot: the definition."""

from __future__ import annotations

import torch

from server.kernels.triton.pieces import FROM, IS_EXPAND, LENGTH, RANK, TO, Pieces


def unpack(slot: torch.Tensor, stored: torch.Tensor, pieces: Pieces) -> None:
    """Write every piece of `stored` [elements], in the file's dtype, into `slot` [elements].

    A stays as it is, [rank, length]. B, [length, rank] in the file, is turned and scaled: in fp32,
    rounded once.
    """
    for numbers, scale in zip(pieces.numbers.tolist(), pieces.scales.tolist(), strict=True):
        rank, length, at = numbers[RANK], numbers[LENGTH], numbers[TO]
        piece = stored[numbers[FROM] :][: rank * length].float()
        if numbers[IS_EXPAND]:
            piece = (piece.view(length, rank) * scale).T.reshape(-1)
        slot[at : at + rank * length] = piece.to(slot.dtype)
