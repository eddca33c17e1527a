"""Choose each row's next token on the device, by its own parameters; one program a row.

Nothing is sorted: every filter is a lowest logit to keep, and that of top_k and top_p is found by
bisection over the bits of fp32, which is exact after 32 passes over a row that the L1 cache holds.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from server.kernels.triton.early_launch import let_next_start, starts_early, wait_for_inputs
from server.kernels.triton.row_sampling import LOWEST_TEMPERATURE, RowSampling

CHUNK = 8192  # logits that a program looks at together
LOWEST = tl.constexpr(LOWEST_TEMPERATURE)
SMALLEST_KEY = tl.constexpr(-(2**31))
LARGEST_KEY = tl.constexpr(2**31 - 1)


def argmax(logits: torch.Tensor) -> torch.Tensor:
    """The largest of each row of `logits` [rows, vocab]: int64 [rows]; of equals the first."""
    rows, vocab = logits.shape
    tokens = torch.empty(rows, dtype=torch.int64, device=logits.device)
    chunk = min(CHUNK, triton.next_power_of_2(vocab))
    early = starts_early(logits)
    _argmax_kernel[(rows,)](
        tokens,
        logits,
        logits.stride(0),
        vocab,
        chunk=chunk,
        early=early,
        num_warps=8,
        launch_pdl=early,
    )
    return tokens


def sample(logits: torch.Tensor, parameters: RowSampling, positions: torch.Tensor) -> torch.Tensor:
    """One token id for each row of `logits` [rows, vocab]: int64 [rows].

    Greedy rows take `argmax`. Others divide by the temperature, keep what min_p, top_k and top_p
    leave (in this order; tokens that tie with the last one kept stay) and draw by the Gumbel race.
    positions: [rows] int64, where in its sequence the token will stand.
    """
    rows, vocab = logits.shape
    tokens = torch.empty(rows, dtype=torch.int64, device=logits.device)
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
        chunk=min(CHUNK, triton.next_power_of_2(vocab)),
        early=early,
        num_warps=16,
        launch_pdl=early,
    )
    return tokens


@triton.jit
def _argmax_kernel(tokens, logits, row_stride, vocab, chunk: tl.constexpr, early: tl.constexpr):
    let_next_start(early)
    wait_for_inputs(early)
    row = tl.program_id(0)
    tl.store(tokens + row, _best_token(logits + row.to(tl.int64) * row_stride, vocab, chunk))


@triton.jit
def _best_token(row, vocab, chunk: tl.constexpr):
    best = tl.full((), float("-inf"), tl.float32)
    token = tl.full((), 0, tl.int64)
    for start in range(0, vocab, chunk):
        at = start + tl.arange(0, chunk)
        value = tl.load(row + at, mask=at < vocab, other=float("-inf")).to(tl.float32)
        highest, index = tl.max(value, 0, return_indices=True, return_indices_tie_break_left=True)
        token = tl.where(highest > best, (start + index).to(tl.int64), token)
        best = tl.maximum(highest, best)
    return token


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
        tl.store(tokens + index, _best_token(row, vocab, chunk))
    else:
        best = _largest(row, vocab, heat, chunk)
        least = tl.load(min_p + index)
        lowest = tl.where(least > 0, best + tl.log(tl.maximum(least, 1e-30)), float("-inf"))
        count = tl.load(top_k + index)
        if (count > 0) & (count < vocab):
            lowest = tl.maximum(lowest, _kth_largest(row, vocab, heat, count, chunk))
        share = tl.load(top_p + index)
        if share < 1.0:
            lowest = tl.maximum(lowest, _nucleus(row, vocab, heat, best, lowest, share, chunk))
        seed, position = tl.load(seeds + index), tl.load(positions + index)
        tl.store(tokens + index, _race(row, vocab, heat, lowest, seed, position, chunk))


@triton.jit
def _scaled(row, at, vocab, heat):
    value = tl.load(row + at, mask=at < vocab, other=float("-inf")).to(tl.float32)
    return tl.div_rn(value, heat)


@triton.jit
def _largest(row, vocab, heat, chunk: tl.constexpr):
    best = tl.full((), float("-inf"), tl.float32)
    for start in range(0, vocab, chunk):
        best = tl.maximum(best, tl.max(_scaled(row, start + tl.arange(0, chunk), vocab, heat), 0))
    return best


@triton.jit
def _float_of(key):
    """The float whose bits, made monotonic in its value, are the int32 `key`."""
    bits = tl.where(key >= 0, key, key ^ 0x7FFFFFFF)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _key_of(value):
    bits = value.to(tl.int32, bitcast=True)
    return tl.where(bits >= 0, bits, bits ^ 0x7FFFFFFF)


@triton.jit
def _halfway(low, high):
    """Rounded up, without overflow."""
    return low + ((high.to(tl.int64) - low.to(tl.int64) + 1) // 2).to(tl.int32)


@triton.jit
def _kth_largest(row, vocab, heat, count, chunk: tl.constexpr):
    """The largest value that at least `count` logits reach."""
    low = _key_of(tl.full((), float("-inf"), tl.float32))
    high = _key_of(_largest(row, vocab, heat, chunk))
    while low < high:
        middle = _halfway(low, high)
        reached = tl.full((), 0, tl.int32)
        for start in range(0, vocab, chunk):
            keys = _key_of(_scaled(row, start + tl.arange(0, chunk), vocab, heat))
            reached += tl.sum((keys >= middle).to(tl.int32), 0)
        low = tl.where(reached >= count, middle, low)
        high = tl.where(reached >= count, high, middle - 1)
    return _float_of(low)


@triton.jit
def _mass_above(row, vocab, heat, best, lowest, key, chunk: tl.constexpr):
    """Probability mass, up to a factor, of the kept logits whose key is larger than `key`."""
    mass = tl.full((), 0.0, tl.float32)
    for start in range(0, vocab, chunk):
        value = _scaled(row, start + tl.arange(0, chunk), vocab, heat)
        counts = (value >= lowest) & (_key_of(value) > key)
        mass += tl.sum(tl.where(counts, tl.exp(value - best), 0.0), 0)
    return mass


@triton.jit
def _nucleus(row, vocab, heat, best, lowest, share, chunk: tl.constexpr):
    """The smallest value with less than `share` of the kept mass above it."""
    low = _key_of(tl.full((), float("-inf"), tl.float32))
    high = _key_of(best)
    wanted = share * _mass_above(row, vocab, heat, best, lowest, low, chunk)
    while low < high:
        middle = _halfway(low, high) - 1
        enough = _mass_above(row, vocab, heat, best, lowest, middle, chunk) < wanted
        high = tl.where(enough, middle, high)
        low = tl.where(enough, low, middle + 1)
    return _float_of(high)


@triton.jit
def _race(row, vocab, heat, lowest, seed, position, chunk: tl.constexpr):
    """The token with the largest logit plus Gumbel noise, among those that are kept."""
    best = tl.full((), float("-inf"), tl.float32)
    token = tl.full((), 0, tl.int64)
    for start in range(0, vocab, chunk):
        at = start + tl.arange(0, chunk)
        value = _scaled(row, at, vocab, heat)
        noise = _gumbel(seed, at, position)
        value = tl.where((value >= lowest) & (at < vocab), value + noise, float("-inf"))
        highest, index = tl.max(value, 0, return_indices=True, return_indices_tie_break_left=True)
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
