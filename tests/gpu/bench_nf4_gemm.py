"""µs of each NF4 product of a 7B Mistral, and how near it comes to reading its bytes once.

    python -m tests.gpu.bench_nf4_gemm [--shapes]

CUDA-graph medians over weights that together exceed the cache; `--shapes` times every tile shape
instead of the one that is chosen.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace

import torch

from server.kernels.cuda.gemm import Nf4Gemm
from server.kernels.cuda.kernels import Nf4Kernels
from server.kernels.cuda.nested import NestedNf4Weight
from server.kernels.cuda.packing import PackedNf4, pack
from server.kernels.cuda.shapes import MmaShape, WgmmaShape

DEVICE = torch.device("cuda:0")
BANDWIDTH = 4.28e12  # bytes a second, a device-to-device copy on an H200
ROTATED = 300e6  # bytes of distinct weights
LAYERS = 32
SHAPES = {
    "qkv": (6144, 4096),
    "o": (4096, 4096),
    "gate_up": (28672, 4096),
    "down": (4096, 14336),
}
TOKENS = (1, 4, 8, 16, 24, 32, 48, 64)
MANY = (96, 128, 192, 256, 384, 512, 1024, 2048)


@dataclass(frozen=True)
class Weights:
    """Copies of one packed weight, and the two forms that others multiply with."""

    packed: Sequence[PackedNf4]
    dense: Sequence[torch.Tensor]


def random_weight(out: int, into: int) -> NestedNf4Weight:
    blocks = out * into // 64
    return NestedNf4Weight(
        codes=torch.randint(0, 256, (out * into // 2,), dtype=torch.uint8, device=DEVICE),
        scales=torch.randint(0, 256, (blocks,), dtype=torch.uint8, device=DEVICE),
        scale_table=torch.rand(256, device=DEVICE),
        groups=torch.rand(-(-blocks // 256), 2, device=DEVICE) * 0.01,
        group_shift=8,
        out_features=out,
        in_features=into,
    )


def make_weights(out: int, into: int) -> Weights:
    weight = random_weight(out, into)
    first = pack(weight)
    copies = max(2, math.ceil(ROTATED / first.nbytes))
    packed = [
        replace(first, codes=first.codes.clone(), scales=first.scales.clone())
        for _ in range(copies)
    ]
    dense = weight.dequantize()
    copies = max(2, math.ceil(ROTATED / dense.nbytes))
    return Weights(packed, [dense.clone() for _ in range(copies)])


def microseconds(calls: Sequence[Callable[[], object]], replays: int = 9) -> float:
    """Median time of one call, all of them captured in one graph."""
    chain = list(calls) * max(1, math.ceil(16 / len(calls)))
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for call in calls[:2]:
            call()
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in chain:
            call()
    graph.replay()
    events = [(torch.cuda.Event(True), torch.cuda.Event(True)) for _ in range(replays)]
    for start, end in events:
        start.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(s.elapsed_time(e) for s, e in events) * 1e3 / len(chain)


def floor(out: int, into: int, tokens: int) -> float:
    """µs to read codes, scales and rows once and write the result."""
    weight = out * into * (0.5 + 1 / 64 + 8 / 64 / 256)
    return (weight + 2 * tokens * (into + out)) / BANDWIDTH * 1e6


def row(name: str, tokens: int, times: Sequence[float]) -> None:
    cells = [
        f"{time:7.1f} {100 * floor(*shape, tokens) / time:3.0f}%"
        for time, shape in zip(times, SHAPES.values(), strict=True)
    ]
    print(
        f"{name:>16} {tokens:5d} {'  '.join(cells)}  Σ {sum(times) * LAYERS / 1e3:6.2f} ms",
        flush=True,
    )


def compare(all_weights: dict[str, Weights]) -> None:
    gemms = {mode: Nf4Gemm(DEVICE, mode=mode) for mode in ("exact", "fast", "batch-invariant")}
    print(f"{'':>16} {'rows':>5} " + "  ".join(f"{name:>12}" for name in SHAPES))
    for tokens in TOKENS + MANY:
        for mode, gemm in gemms.items():
            if mode != "exact" and (tokens in (8, 24, 48) or tokens > 512):
                continue
            row(mode, tokens, [ours(gemm, all_weights[name], tokens) for name in SHAPES])
        row("cuBLAS bf16", tokens, [cublas(all_weights[name], tokens) for name in SHAPES])


def rows_of(weights: Weights, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    weight = weights.packed[0]
    x = torch.randn(tokens, weight.in_features, device=DEVICE).bfloat16()
    return x, torch.empty(tokens, weight.out_features, device=DEVICE, dtype=torch.bfloat16)


def ours(gemm: Nf4Gemm, weights: Weights, tokens: int) -> float:
    x, out = rows_of(weights, tokens)
    return microseconds([lambda w=w: gemm.multiply(w, x, out) for w in weights.packed])


def cublas(weights: Weights, tokens: int) -> float:
    x, out = rows_of(weights, tokens)
    return microseconds([lambda w=w: torch.mm(x, w.T, out=out) for w in weights.dense])


def bitsandbytes_times() -> None:
    """Its own fused product, on weights that it quantized itself."""
    import bitsandbytes as bnb

    made = {}
    for name, (out, into) in SHAPES.items():
        dense = torch.randn(out, into, device=DEVICE).mul_(0.02).bfloat16()
        codes, state = bnb.functional.quantize_4bit(
            dense, blocksize=64, compress_statistics=True, quant_type="nf4"
        )
        copies = math.ceil(ROTATED / codes.nbytes)
        made[name] = ([codes.clone() for _ in range(copies)], state, into)
    for tokens in (1, 16, 64):
        times = []
        for codes, state, into in made.values():
            x = torch.randn(tokens, into, device=DEVICE).bfloat16()
            times.append(
                microseconds([lambda c=c, x=x, s=state: bnb.matmul_4bit(x, c, s) for c in codes])
            )
        row("bitsandbytes", tokens, times)


MMA_CANDIDATES = (
    MmaShape(1, 4, 2, 8), MmaShape(1, 4, 2, 4, 2), MmaShape(1, 4, 2, 6), MmaShape(1, 4, 2, 7),
    MmaShape(2, 4, 2, 4, 2), MmaShape(2, 4, 2, 6), MmaShape(2, 4, 2, 7),
    MmaShape(4, 2, 4, 2, 2), MmaShape(4, 4, 2, 4), MmaShape(4, 4, 2, 4, 2),
    MmaShape(8, 2, 4, 2, 2), MmaShape(8, 2, 4, 3),
)  # fmt: skip


def compare_shapes(all_weights: dict[str, Weights]) -> None:
    kernels = {mode: Nf4Kernels(DEVICE, mode, None) for mode in ("exact", "fast")}
    for mode, of_mode in kernels.items():
        for shape in MMA_CANDIDATES:
            tokens = shape.column_tiles * 8 if shape.column_tiles > 1 else 1
            times = []
            for weights in all_weights.values():
                x, out = rows_of(weights, tokens)
                calls = [
                    lambda w=w, x=x, out=out, k=of_mode, s=shape: k.mma(s, w, x, out)
                    for w in weights.packed
                ]
                times.append(microseconds(calls))
            name = ",".join(map(str, astuple(shape)))
            row(f"{mode} {name}", tokens, times)
    for mode, of_mode in kernels.items():
        for shape in [WgmmaShape(tokens, bands) for tokens in (8, 16, 32, 64) for bands in (1, 2)]:
            for cluster in (1, 2, 3, 4, 0):
                times = [wgmma(of_mode, shape, w, cluster) for w in all_weights.values()]
                row(f"{mode} wg {shape.bands},{cluster}", shape.tokens, times)


def wgmma(kernels: Nf4Kernels, shape: WgmmaShape, weights: Weights, cluster: int) -> float:
    """With clusters of one size, or (0) of the size that is chosen."""
    x, out = rows_of(weights, shape.tokens)
    first = weights.packed[0]
    tiles = -(-first.out_features // shape.rows)
    key = (shape.bands, tiles, first.blocks // 2)
    kernels._clusters.pop(key, None)
    if cluster:
        kernels._clusters[key] = cluster
    time = microseconds([lambda w=w: kernels.wgmma(shape, w, x, out) for w in weights.packed])
    if not cluster and shape.tokens == 64:
        print(f"{first.out_features} x {first.in_features}: clusters of {kernels._clusters[key]}")
    return time


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shapes", action="store_true")
    shapes_too = parser.parse_args().shapes
    all_weights = {name: make_weights(*shape) for name, shape in SHAPES.items()}
    if shapes_too:
        compare_shapes(all_weights)
    compare(all_weights)
    bitsandbytes_times()


if __name__ == "__main__":
    main()
