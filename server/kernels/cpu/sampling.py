"""The largest logit of each row; twin: `server.kernels.sampling.largest`."""

from __future__ import annotations

import math

import torch
from numba import njit

from server.kernels.cpu.compiled import entry
from server.kernels.cpu.memory import read_bf16, write_float, write_int
from server.kernels.cpu.vector import LANES, load_bf16, maximum, widest

STRETCH = 32 * LANES  # logits looked through between two looks at what was found


def largest(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As the twin, without waking the threads of torch, which the next step would wait for."""
    rows, vocab = logits.shape
    values = torch.empty(rows, dtype=torch.float32)
    ids = torch.empty(rows, dtype=torch.int64)
    _find_largest(logits.data_ptr(), rows, vocab, values.data_ptr(), ids.data_ptr())
    return values, ids


@entry
def _find_largest(logits: int, rows: int, vocab: int, values: int, ids: int) -> None:
    for row in range(rows):
        there = logits + 2 * vocab * row
        stretch, value = _stretch_of_largest(there, vocab)
        write_float(values + 4 * row, value)
        write_int(ids + 8 * row, _first_of(there, stretch, vocab, value))


@njit
def _stretch_of_largest(logits: int, vocab: int) -> tuple[int, float]:
    """Where the stretch begins that first holds the largest logit, and that logit; or NaN."""
    where, value = 0, read_bf16(logits)
    whole = vocab - vocab % STRETCH
    for start in range(0, whole, STRETCH):
        highest = load_bf16(logits + 2 * start)
        for offset in range(start + LANES, start + STRETCH, LANES):
            highest = maximum(highest, load_bf16(logits + 2 * offset))
        found = widest(highest)
        if not found <= value:
            where, value = start, found
        if math.isnan(value):
            return where, value
    for token in range(whole, vocab):
        found = read_bf16(logits + 2 * token)
        if not found <= value:
            where, value = token, found
        if math.isnan(value):
            return where, value
    return where, value


@njit
def _first_of(logits: int, start: int, vocab: int, value: float) -> int:
    for token in range(start, vocab):
        logit = read_bf16(logits + 2 * token)
        if logit == value or math.isnan(logit):
            return token
    return start
