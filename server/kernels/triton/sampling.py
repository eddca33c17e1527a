"""Choose each row's next token on the device, by its own parameters; one program a row.

Nothing is sorted: every filter is a lowest logit to keep, and that of top_k and top_p is found by
bisection over the bits of a logit, which is exact after 16 passes (fp32: 32) over a row that the
L1 cache holds.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.kernels.triton.early_launch import let_next_start, starts_early, wait_for_inputs
from server.kernels.triton.row_sampling import LOWEST_TEMPERATURE, NO_TOKEN, RowSampling

WHOLE = 32768  # logits of which one program takes the largest at once
CHUNK = 8192  # and that fit its registers while it samples
LOWEST = tl.constexpr(LOWEST_TEMPERATURE)
NONE = tl.constexpr(NO_TOKEN)
WARPS = 32


def argmax(logits: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """The largest of each row of `logits` [rows, vocab]: int64 [rows]; of equals the first.

    NO_TOKEN where the largest is not finite or a logit is not a number. out: where it goes.
    """
    rows, vocab = logits.shape
    if out is None:
        out = torch.empty(rows, dtype=torch.int64, device=logits.device)
    chunk = min(WHOLE, triton.next_power_of_2(vocab))
    early = starts_early(logits)
    _argmax_kernel[(rows,)](
        out,
        logits,
        logits.stride(0),
        vocab,
        chunk=chunk,
        early=early,
        num_warps=_warps(chunk),
        launch_pdl=early,
    )
    return out


def sample(logits: torch.Tensor, parameters: RowSampling, positions: torch.Tensor) -> torch.Tensor:
    """One token id for each row of `logits` [rows, vocab]: int64 [rows].

    Greedy rows take `argmax`. Others divide by the temperature, keep what min_p, top_k and top_p
    leave (in this order; tokens that tie with the last one kept stay) and draw by the Gumbel race.
    positions: [rows] int64, where in its sequence the token will stand.
    """
    rows, vocab = logits.shape
    tokens = torch.empty(rows, dtype=torch.int64, device=logits.device)
    chunk = min(CHUNK, triton.next_power_of_2(vocab))
    early = starts_early(logits)
    _sample_kernel[(rows,)](
        tokens,
        logits,
        parameters.temperature,
        parameters.top_k,
        parameters.top_p,
        parameters.min_p,
        parameters.seeds,
        positions,
        logits.stride(0),
        vocab,
        chunk=chunk,
        early=early,
        num_warps=_warps(chunk),
        launch_pdl=early,
    )
    return tokens


def _warps(chunk: int) -> int:
    """As many as leave each thread eight logits or more."""
    return min(WARPS, max(1, chunk // 256))


@triton.jit
def _argmax_kernel(tokens, logits, row_stride, vocab, chunk: tl.constexpr, early: tl.constexpr):
    let_next_start(early)
    wait_for_inputs(early)
    row = tl.program_id(0)
    token, is_sound = _best_token(logits + row.to(tl.int64) * row_stride, vocab, chunk)
    tl.store(tokens + row, tl.where(is_sound, token, NONE))


@triton.jit
def _best_token(row, vocab, chunk: tl.constexpr):
    """The first of the largest logits, and whether it is finite and every logit is a number."""
    best = tl.full((), float("-inf"), tl.float32)
    token = tl.full((), 0, tl.int64)
    wrong = tl.full((), 0, tl.int32)
    for start in range(0, vocab, chunk):
        at = start + tl.arange(0, chunk)
        value = tl.load(row + at, mask=at < vocab, other=float("-inf")).to(tl.float32)
        wrong += tl.sum((value != value).to(tl.int32), 0)
        highest, index = tl.max(value, 0, return_indices=True, return_indices_tie_break_left=True)
        token = tl.where(highest > best, (start + index).to(tl.int64), token)
        best = tl.maximum(highest, best)
    is_finite = (best > float("-inf")) & (best < float("inf"))
    return token, is_finite & (wrong == 0)


@triton.jit
def _sample_kernel(
    tokens,
    logits,
    temperature,
    top_k,
    top_p,
    min_p,
    seeds,
    positions,
    row_stride,
    vocab,
    chunk: tl.constexpr,
    early: tl.constexpr,
):
    let_next_start(early)
    wait_for_inputs(early)
    index = tl.program_id(0)
    row = logits + index.to(tl.int64) * row_stride
    heat = tl.load(temperature + index)
    if heat < LOWEST:
        token, _ = _best_token(row, vocab, chunk)
        tl.store(tokens + index, token)
    else:
        best = _largest(row, vocab, chunk)
        least = tl.load(min_p + index)
        floor = tl.where(
            least > 0, tl.div_rn(best, heat) + tl.log(tl.maximum(least, 1e-30)), float("-inf")
        )
        lowest = _key_of(tl.full((), float("-inf"), tl.float32).to(row.dtype.element_ty))
        count = tl.load(top_k + index)
        if (count > 0) & (count < vocab):
            lowest = _kth_largest(row, vocab, best, count, chunk)
        share = tl.load(top_p + index)
        if share < 1.0:
            lowest = _nucleus(row, vocab, heat, best, floor, lowest, share, chunk)
        seed, position = tl.load(seeds + index), tl.load(positions + index)
        token = _race(row, vocab, heat, floor, lowest, seed, position, chunk)
        tl.store(tokens + index, token)


@triton.jit
def _logits(row, at, vocab):
    return tl.load(row + at, mask=at < vocab, other=float("-inf"))


@triton.jit
def _largest(row, vocab, chunk: tl.constexpr):
    best = tl.full((), float("-inf"), tl.float32)
    for start in range(0, vocab, chunk):
        value = _logits(row, start + tl.arange(0, chunk), vocab).to(tl.float32)
        best = tl.maximum(best, tl.max(value, 0))
    return best


@triton.jit
def _key_of(value):
    """An int32 that orders logits as their values do: the bits, those of negative ones flipped."""
    if value.dtype.primitive_bitwidth == 16:
        bits = value.to(tl.int16, bitcast=True).to(tl.int32)
        key = tl.where(bits >= 0, bits, bits ^ 0x7FFF)
    else:
        bits = value.to(tl.int32, bitcast=True)
        key = tl.where(bits >= 0, bits, bits ^ 0x7FFFFFFF)
    return key


@triton.jit
def _halfway(low, high):
    """Rounded down, without overflow."""
    return (low & high) + ((low ^ high) >> 1)


@triton.jit
def _kth_largest(row, vocab, best, count, chunk: tl.constexpr):
    """The largest key that at least `count` logits reach."""
    dtype: tl.constexpr = row.dtype.element_ty
    low = _key_of(tl.full((), float("-inf"), tl.float32).to(dtype))
    high = _key_of(best.to(dtype))
    while low < high:
        middle = _halfway(low, high) + 1
        reached = tl.zeros((chunk,), tl.int32)
        for start in range(0, vocab, chunk):
            keys = _key_of(_logits(row, start + tl.arange(0, chunk), vocab))
            reached += (keys >= middle).to(tl.int32)
        enough = tl.sum(reached, 0) >= count
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle - 1)
    return low


@triton.jit
def _mass_above(row, vocab, heat, best, floor, lowest, key, chunk: tl.constexpr):
    """Probability mass, up to a factor, of the kept logits whose key is larger than `key`."""
    peak = tl.div_rn(best, heat)
    mass = tl.zeros((chunk,), tl.float32)
    for start in range(0, vocab, chunk):
        logit = _logits(row, start + tl.arange(0, chunk), vocab)
        keys = _key_of(logit)
        scaled = tl.div_rn(logit.to(tl.float32), heat)
        counts = (scaled >= floor) & (keys >= lowest) & (keys > key)
        mass += tl.where(counts, tl.exp(scaled - peak), 0.0)
    return tl.sum(mass, 0)


@triton.jit
def _nucleus(row, vocab, heat, best, floor, lowest, share, chunk: tl.constexpr):
    """The smallest key, not below `lowest`, with less than `share` of the kept mass above it."""
    low, high = lowest, _key_of(best.to(row.dtype.element_ty))
    wanted = share * _mass_above(row, vocab, heat, best, floor, lowest, lowest - 1, chunk)
    while low < high:
        middle = _halfway(low, high)
        enough = _mass_above(row, vocab, heat, best, floor, lowest, middle, chunk) < wanted
        high = tl.where(enough, middle, high)
        low = tl.where(enough, low, middle + 1)
    return high


@triton.jit
def _race(row, vocab, heat, floor, lowest, seed, position, chunk: tl.constexpr):
    """The token with the largest scaled logit plus Gumbel noise, among those that are kept."""
    best = tl.full((), float("-inf"), tl.float32)
    token = tl.full((), 0, tl.int64)
    for start in range(0, vocab, chunk):
        at = start + tl.arange(0, chunk)
        logit = _logits(row, at, vocab)
        scaled = tl.div_rn(logit.to(tl.float32), heat)
        kept = (scaled >= floor) & (_key_of(logit) >= lowest) & (at < vocab)
        raced = tl.where(kept, scaled + _gumbel(seed, at, position), float("-inf"))
        highest, index = tl.max(raced, 0, return_indices=True, return_indices_tie_break_left=True)
        token = tl.where(highest > best, (start + index).to(tl.int64), token)
        best = tl.maximum(highest, best)
    return token


@triton.jit
def _gumbel(seed, at, position):
    zeros = at * 0
    words, _, _, _ = tl.philox(seed, at, zeros + position.to(tl.int32), zeros, zeros)
    folded = words.to(tl.int32, bitcast=True)
    folded = tl.where(folded < 0, -folded - 1, folded)
    uniform = tl.minimum((folded.to(tl.float32) + 0.5) * 4.656612873077393e-10, 1.0 - 5.9604645e-8)
    # The winners' exponential noise is tiny, where the logarithm of 1 - u is inexact.
    series = uniform * (1.0 + uniform * (1.0 / 2 + uniform * (1.0 / 3 + uniform / 4)))
    exponential = tl.where(uniform < 1.0 / 64, series, -tl.log(1.0 - uniform))
    return -tl.log(exponential)
