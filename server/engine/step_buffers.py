"""Static device memory that decode steps read, so that one graph serves all of its size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from server.kernels.triton.row_sampling import RowSampling
from server.kernels.triton.tiles import DECODE_ROWS, LoraTiles

ALIGNMENT = 16  # bytes; the widest load of a kernel
Shape = tuple[int, ...]
Fields = Mapping[str, tuple[torch.dtype, Shape]]


def carve(
    fields: Fields, device: torch.device, *, pin: bool
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """One stretch of zero bytes, and each field as a view of it, in order and aligned."""
    data = torch.zeros(_end(fields), dtype=torch.uint8, device=device, pin_memory=pin)
    views: dict[str, torch.Tensor] = {}
    at = 0
    for name, (dtype, shape) in fields.items():
        nbytes = _nbytes(dtype, shape)
        views[name] = data[at : at + nbytes].view(dtype).view(shape)
        at += _padded(nbytes)
    return data, views


@dataclass(frozen=True)
class DecodeRows:
    """The rows of one decode step, one sequence each; all tensors [rows, …].

    token_ids int64: a token, or `~r` for the one that row r of the step before chose. positions,
    kv_slots int64: where the token stands, and where its KV goes (-1: nowhere). context_lengths
    int32: tokens to look at, this one included; 0 pads the bucket. block_tables int32
    [rows, blocks]. tiles: which rows share an adapter. row_slots int32: each row's
    slot, -1 for none. sampling: how the next token is chosen.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    kv_slots: torch.Tensor
    context_lengths: torch.Tensor
    block_tables: torch.Tensor
    tiles: LoraTiles
    row_slots: torch.Tensor
    sampling: RowSampling

    def first(self, rows: int) -> DecodeRows:
        """Views of the first rows."""
        sampling = self.sampling
        return DecodeRows(
            self.token_ids[:rows],
            self.positions[:rows],
            self.kv_slots[:rows],
            self.context_lengths[:rows],
            self.block_tables[:rows],
            LoraTiles(self.tiles.slots[:rows], self.tiles.rows[:rows]),
            self.row_slots[:rows],
            RowSampling(
                sampling.temperature[:rows],
                sampling.top_k[:rows],
                sampling.top_p[:rows],
                sampling.min_p[:rows],
                sampling.seeds[:rows],
            ),
        )


@dataclass(frozen=True)
class RowBlock:
    """One stretch of bytes that holds all of `DecodeRows`, so that a single copy moves a step.

    Block tables come last: they are by far the largest, and only those of the rows in use move.
    """

    data: torch.Tensor  # [bytes] uint8
    rows: DecodeRows

    @classmethod
    def make(cls, max_rows: int, max_blocks: int, device: torch.device, *, pin: bool) -> RowBlock:
        """A block with every row empty; pinned if it is the host's side of a device."""
        data, views = carve(_fields(max_rows, max_blocks), device, pin=pin)
        rows = DecodeRows(
            token_ids=views["token_ids"],
            positions=views["positions"],
            kv_slots=views["kv_slots"],
            context_lengths=views["context_lengths"],
            block_tables=views["block_tables"],
            tiles=LoraTiles(views["tile_slots"], views["tile_rows"]),
            row_slots=views["row_slots"],
            sampling=RowSampling(
                views["temperature"],
                views["top_k"],
                views["top_p"],
                min_p=views["min_p"],
                seeds=views["seeds"],
            ),
        )
        return cls(data, rows)

    def used(self, rows: int) -> torch.Tensor:
        """The bytes that a step of so many rows needs."""
        tables = self.rows.block_tables
        return self.data[: len(self.data) - tables[rows:].nbytes]


def _fields(rows: int, blocks: int) -> Fields:
    return {
        "token_ids": (torch.int64, (rows,)),
        "positions": (torch.int64, (rows,)),
        "kv_slots": (torch.int64, (rows,)),
        "seeds": (torch.int64, (rows,)),
        "context_lengths": (torch.int32, (rows,)),
        "temperature": (torch.float32, (rows,)),
        "top_k": (torch.int32, (rows,)),
        "top_p": (torch.float32, (rows,)),
        "min_p": (torch.float32, (rows,)),
        "tile_slots": (torch.int32, (rows,)),
        "row_slots": (torch.int32, (rows,)),
        "tile_rows": (torch.int32, (rows, DECODE_ROWS)),
        "block_tables": (torch.int32, (rows, blocks)),
    }


def _nbytes(dtype: torch.dtype, shape: Shape) -> int:
    return dtype.itemsize * torch.Size(shape).numel()


def _padded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _end(fields: Fields) -> int:
    """Bytes of all fields; the last is not padded, so that its rows end where the block does."""
    *others, last = [_nbytes(*field) for field in fields.values()]
    return sum(_padded(nbytes) for nbytes in others) + last
