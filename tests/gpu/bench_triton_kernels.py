"""Times of the step's Triton kernels in the Mistral-7B shape, beside their byte floors.

    python -m tests.gpu.bench_triton_kernels [--sections lora small …] [--sweep SECONDS]

Medians over replays of a CUDA graph that holds many calls, on more data than the L2 cache takes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from server.kernels.rope import RopeTable
from server.kernels.triton import activation, attention, lora, norm, prefill, rope, sampling
from server.kernels.triton.site import LoraSite
from server.kernels.triton.splits import splits_for
from server.kernels.triton.tiles import DECODE_ROWS, PROMPT_ROWS, LoraTiles
from tests.support.kernel_cases import (
    make_cache,
    make_chunks,
    make_sampling,
    make_site,
    make_tables,
)

BANDWIDTH = 4.281e12  # bytes a second, a device-to-device copy counted both ways
REPLAYS = 15
DTYPE = torch.bfloat16
HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 4096, 14336, 32, 8, 128, 32768
LAYERS = 32
SITES = {
    "qkv": (HIDDEN, (4096, 1024, 1024)),
    "o": (4096, (HIDDEN,)),
    "gate_up": (HIDDEN, (INTERMEDIATE, INTERMEDIATE)),
    "down": (INTERMEDIATE, (HIDDEN,)),
}


def time_graph(calls: Callable[[], None], count: int = 1) -> float:
    """Microseconds of one of the `count` calls that `calls` makes."""
    calls()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        calls()
    for _ in range(3):
        graph.replay()
    times = []
    for _ in range(REPLAYS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times) * 1000 / count


def report(name: str, microseconds: float, floor_bytes: float) -> None:
    floor = floor_bytes / BANDWIDTH * 1e6
    share = 100 * floor / microseconds
    print(f"{name:42s} {microseconds:9.1f} µs  floor {floor:8.1f}  {share:3.0f}%", flush=True)


@dataclass(frozen=True)
class LoraStep:
    """Every site of every layer, for a number of rows over a number of adapters."""

    sites: dict[str, list[LoraSite]]

    @classmethod
    def make(cls, ranks: list[int]) -> LoraStep:
        return cls(
            {
                group: [
                    make_site(
                        [[rank] * len(widths) for rank in ranks],
                        into,
                        widths,
                        dtype=DTYPE,
                        device="cuda",
                    )
                    for _ in range(LAYERS)
                ]
                for group, (into, widths) in SITES.items()
            }
        )

    def calls(
        self,
        rows: int,
        adapters: int,
        groups: tuple[str, ...] = tuple(SITES),
        tuning: lora.LoraTuning | None = None,
    ) -> Callable[[], None]:
        used = LoraTiles.of([row % adapters for row in range(rows)], DECODE_ROWS, "cuda")
        tiles = LoraTiles.empty(rows, DECODE_ROWS, "cuda")
        tiles.slots[: len(used.slots)] = used.slots
        tiles.rows[: len(used.rows)] = used.rows
        inputs = {
            group: torch.randn(rows, SITES[group][0], device="cuda").to(DTYPE) for group in groups
        }
        outputs = {
            group: torch.randn(rows, sum(SITES[group][1]), device="cuda").to(DTYPE)
            for group in groups
        }

        def run() -> None:
            for layer in range(LAYERS):
                for group in groups:
                    site = self.sites[group][layer]
                    lora.add_lora(outputs[group], inputs[group], site, tiles, tuning=tuning)

        return run


def lora_bytes(ranks: list[int], groups: tuple[str, ...] = tuple(SITES)) -> float:
    shapes = [SITES[group] for group in groups]
    per_rank = sum(len(widths) * into + sum(widths) for into, widths in shapes)
    return 2.0 * LAYERS * sum(ranks) * per_rank


def bench_lora(step: LoraStep) -> None:
    for rows, adapters in ((1, 1), (16, 1), (16, 16), (64, 1), (64, 64), (128, 64)):
        taken = time_graph(step.calls(rows, adapters))
        report(f"LoRA step r=16 {rows}/{adapters}", taken, lora_bytes([16] * adapters))
    for group in SITES:
        taken = time_graph(step.calls(64, 64, (group,)), LAYERS)
        report(f"LoRA {group} 64/64", taken, lora_bytes([16] * 64, (group,)) / LAYERS)


def bench_lora_launched_in_turn(step: LoraStep) -> None:
    """What starting early is worth."""
    early = lora.starts_early  # type: ignore[attr-defined]
    lora.starts_early = lambda _tensor: False  # type: ignore[attr-defined]
    try:
        for rows, adapters in ((1, 1), (64, 64)):
            taken = time_graph(step.calls(rows, adapters))
            report(f"LoRA step {rows}/{adapters}, in turn", taken, lora_bytes([16] * adapters))
    finally:
        lora.starts_early = early  # type: ignore[attr-defined]


def bench_mixed_ranks() -> None:
    ranks = [8, 64] * 8
    step = LoraStep.make(ranks)
    taken = time_graph(step.calls(16, 16))
    report("LoRA step 16/16, ranks 8 and 64 in turn", taken, lora_bytes(ranks))


def decode_calls(
    rows: int, context: int, splits: int, tuning: attention.DecodeTuning = attention.DEFAULT_TUNING
) -> tuple[Callable[[], None], int]:
    tables, blocks = make_tables([context] * rows, device="cuda")
    layers = max(2, min(16, int(4e8 // (rows * context * 4096)) + 1))
    caches = [
        make_cache(blocks, KV_HEADS, HEAD_DIM, dtype=DTYPE, device="cuda") for _ in range(layers)
    ]
    query = torch.randn(rows, HEADS, HEAD_DIM, device="cuda").to(DTYPE)
    lengths = torch.full((rows,), context, dtype=torch.int32, device="cuda")

    def run() -> None:
        for cache in caches:
            attention.decode_attention(query, cache, tables, lengths, splits=splits, tuning=tuning)

    return run, layers


def bench_attention() -> None:
    for rows, context in ((1, 1024), (16, 1024), (64, 1024), (128, 1024), (1, 16384), (16, 8192)):
        splits = splits_for(rows, KV_HEADS)
        run, layers = decode_calls(rows, context, splits)
        name = f"decode attention {rows}×{context}, {splits} splits"
        report(name, time_graph(run, layers), rows * context * 4096)


def bench_prefill() -> None:
    chunks, blocks = make_chunks([(1024, 1024)] * 8, device="cuda")
    caches = [make_cache(blocks, KV_HEADS, HEAD_DIM, dtype=DTYPE, device="cuda") for _ in range(4)]
    query = torch.randn(8192, HEADS, HEAD_DIM, device="cuda").to(DTYPE)

    def run() -> None:
        for cache in caches:
            prefill.prefill_attention(query, cache, chunks)

    taken = time_graph(run, 4)
    operations = 8 * 4 * 1024 * 1025 / 2 * HEADS * HEAD_DIM
    print(f"prefill attention 8×1024: {taken:.0f} µs, {operations / taken / 1e6:.0f} TFLOP/s")
    slots = LoraTiles.of([row // 1024 for row in range(8192)], PROMPT_ROWS, "cuda")
    for group in ("qkv", "gate_up", "down"):
        into, widths = SITES[group]
        site = make_site([[16] * len(widths)] * 8, into, widths, dtype=DTYPE, device="cuda")
        x = torch.randn(8192, into, device="cuda").to(DTYPE)
        y = torch.randn(8192, sum(widths), device="cuda").to(DTYPE)
        taken = time_graph(lambda y=y, x=x, site=site: lora.add_lora(y, x, site, slots))  # type: ignore[misc]
        report(f"LoRA {group} prefill 8×1024, 8 adapters", taken, x.nbytes + 2 * y.nbytes)


def bench_small(rows: int) -> None:
    """Everything else in a layer, and sampling; many calls over the same rows, which L2 holds."""
    x = torch.randn(rows, HIDDEN, device="cuda").to(DTYPE)
    weight = torch.ones(HIDDEN, device="cuda", dtype=DTYPE)
    gate_up = torch.randn(rows, 2 * INTERMEDIATE, device="cuda").to(DTYPE)
    qkv = torch.randn(rows, 6144, device="cuda").to(DTYPE)
    table = RopeTable.build(head_dim=HEAD_DIM, num_positions=9000, theta=1e6, like=x)
    cache = make_cache(rows // 16 + 1, KV_HEADS, HEAD_DIM, dtype=DTYPE, device="cuda")
    positions = torch.arange(rows, device="cuda")
    timed: dict[str, tuple[Callable[[], object], float]] = {
        "add_rms_norm": (lambda: norm.add_rms_norm(x, x, weight, 1e-5), 4 * x.nbytes),
        "silu_mul": (lambda: activation.silu_mul(gate_up), 1.5 * gate_up.nbytes),
        "rotate_and_write": (
            lambda: rope.rotate_and_write(qkv, table, positions, positions, cache),
            2 * qkv.nbytes,
        ),
    }
    if rows <= 128:
        logits = torch.randn(rows, VOCAB, device="cuda").to(DTYPE) * 3
        hot = make_sampling([(1.0, 40, 0.9, 0.01)] * rows, device="cuda")
        timed["argmax"] = (lambda: sampling.argmax(logits), logits.nbytes)
        timed["sample, all filters"] = (
            lambda: sampling.sample(logits, hot, positions),
            logits.nbytes,
        )
    for name, (call, floor) in timed.items():
        report(
            f"{name} {rows} rows", time_graph(lambda c=call: [c() for _ in range(16)], 16), floor
        )  # type: ignore[misc]


TUNINGS = {
    "4 splits": lora.LoraTuning(splits=4),
    "8 splits": lora.LoraTuning(splits=8),
    "16 splits": lora.LoraTuning(splits=16),
    "8 splits, 792 programs": lora.LoraTuning(splits=8, programs=792),
    "fixed splits": lora.INVARIANT_TUNING,
    "396 programs": lora.LoraTuning(programs=396),
    "792 programs": lora.LoraTuning(programs=792),
    "expand 512, 4 warps": lora.LoraTuning(expand_block=512, expand_warps=4),
    "shrink 4 warps": lora.LoraTuning(shrink_warps=4),
    "shrink 512, 4 warps": lora.LoraTuning(shrink_block=512, shrink_warps=4, shrink_stages=3),
    "shrink 128": lora.LoraTuning(shrink_block=128, shrink_stages=6),
}


def sweep(step: LoraStep, seconds: float) -> None:
    """Other ways to cut the LoRA step, as many as the seconds allow."""
    deadline = time.monotonic() + seconds
    for name, tuning in TUNINGS.items():
        for rows, adapters in ((1, 1), (16, 16), (64, 1), (64, 64)):
            if time.monotonic() < deadline:
                taken = time_graph(step.calls(rows, adapters, tuning=tuning))
                report(f"LoRA {rows}/{adapters}, {name}", taken, lora_bytes([16] * adapters))


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sections", nargs="*", default=["lora", "small", "attention", "prefill"])
    parser.add_argument("--sweep", type=float, default=0.0, help="seconds for other LoRA tunings")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    if "lora" in options.sections:
        step = LoraStep.make([16] * 64)
        bench_lora(step)
        bench_lora_launched_in_turn(step)
        sweep(step, options.sweep)
        bench_mixed_ranks()
    if "small" in options.sections:
        for rows in (1, 64, 8192):
            bench_small(rows)
    if "attention" in options.sections:
        bench_attention()
    if "prefill" in options.sections:
        bench_prefill()


if __name__ == "__main__":
    main(sys.argv[1:])
