"""Whole decode steps, recorded and replayed on random weights that are made in place.

    python -m tests.gpu.bench_steps 1/0 1/1 64/64 --apart

Each case is rows/adapters. What `bench_engine` gives besides the host costs no time here, so that
a change of a kernel is seen within seconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from functools import partial

import torch
from rich.console import Console

from registry.homes import kernel_cache
from server.bench.device_report import print_pulled_apart
from server.bench.pull_apart import pull_apart
from server.bench.workload import Case
from server.engine.arena import blob_table, places_of, projections_of, slot_elements
from server.engine.config import GROUPS, ModelConfig
from server.engine.decode_steps import DecodeSteps
from server.engine.device_model import DeviceModel
from server.engine.graphs import GraphRecorder
from server.engine.slots import Site
from server.engine.step_buffers import DecodeRows, RowBlock
from server.engine.step_kernels import StepKernels
from server.engine.weights import LayerWeights, ModelWeights
from server.kernels.cuda.gemm import Nf4Gemm
from server.kernels.cuda.shapes import Mode
from server.kernels.rope import RopeTable
from server.kernels.triton.site import EXPAND, SHRINK, LoraSite
from server.kernels.triton.tiles import group_rows
from tests.gpu.bench_nf4_gemm import DEVICE, random_weight
from tests.gpu.shapes import MISTRAL_7B

CASES = ("1/0", "1/1", "16/16", "64/1", "64/64", "128/64")
SLOTS, RANK, MAX_RANK = 64, 16, 64
BLOCK_SIZE, MAX_ROWS = 16, 128
REPLAYS = 30


def make_weights(config: ModelConfig, gemm: Nf4Gemm) -> ModelWeights:
    def vector() -> torch.Tensor:
        return torch.ones(config.hidden_size, dtype=torch.bfloat16, device=DEVICE)

    def table() -> torch.Tensor:
        made = torch.randn(config.vocab_size, config.hidden_size, device=DEVICE) * 0.02
        return made.to(torch.bfloat16)

    layers = tuple(
        LayerWeights(
            **{group: gemm.linear(random_weight(*config.group_shape(group))) for group in GROUPS},
            input_norm=vector(),
            post_attention_norm=vector(),
        )
        for _ in range(config.num_layers)
    )
    return ModelWeights(table(), layers, vector(), table())


def make_sites(config: ModelConfig) -> Mapping[Site, LoraSite]:
    """Every slot with an adapter of RANK on all projections."""
    ranks = {(layer, name): RANK for _, _, layer, name in projections_of(config)}
    places, _ = places_of(config, ranks)
    size = slot_elements(config, MAX_RANK)
    arena = torch.empty(SLOTS * size, device=DEVICE, dtype=torch.bfloat16).normal_(std=0.01)
    table = blob_table(config, places).repeat(SLOTS, 1, 1, 1)
    table[..., SHRINK : EXPAND + 1] += (torch.arange(SLOTS) * size)[:, None, None, None]
    table = table.to(DEVICE)
    sites = {}
    for layer in range(config.num_layers):
        for index, (group, projections) in enumerate(GROUPS.items()):
            widths = tuple(config.projection_shape(name)[0] for name in projections)
            entries = table[:, layer * len(GROUPS) + index, : len(widths)]
            sites[layer, group] = LoraSite(arena, entries, widths, MAX_RANK)
    return sites


def make_model(config: ModelConfig, mode: Mode, blocks: int) -> DeviceModel:
    gemm = Nf4Gemm(DEVICE, mode=mode, cache=kernel_cache() / "cuda")
    gemm.prepare()
    weights = make_weights(config, gemm)
    shape = (config.num_layers, 2, blocks, BLOCK_SIZE, config.num_kv_heads, config.head_dim)
    invariant = mode == "batch-invariant"
    return DeviceModel(
        config=config,
        weights=weights,
        kernels=StepKernels.of(DEVICE, invariant=invariant),
        sites=make_sites(config),
        rope=RopeTable.build(
            head_dim=config.head_dim,
            num_positions=8192,
            theta=config.rope_theta,
            like=weights.embedding,
        ),
        cache=torch.randn(shape, device=DEVICE, dtype=torch.bfloat16),
        invariant=invariant,
    )


def fill(rows: DecodeRows, case: Case, context: int, block_count: int) -> None:
    """One token each at the end of `context`, adapters in turn."""
    count = case.streams
    slots = [row % case.adapters if case.adapters else None for row in range(count)]
    tile_slots, members = group_rows(slots, rows.tiles.tile_rows)
    rows.token_ids.fill_(1)
    rows.positions.fill_(context - 1)
    rows.context_lengths.fill_(context)
    tables = torch.arange(count * block_count, dtype=torch.int32).view(count, block_count)
    rows.block_tables[:count, :block_count] = tables.to(DEVICE)
    at = tables[:, (context - 1) // BLOCK_SIZE] * BLOCK_SIZE + (context - 1) % BLOCK_SIZE
    rows.kv_slots[:count] = at.to(DEVICE)
    rows.row_slots[:count] = torch.tensor([-1 if s is None else s for s in slots]).to(DEVICE)
    rows.tiles.slots.fill_(-1)
    rows.tiles.slots[: len(tile_slots)] = torch.tensor(tile_slots, dtype=torch.int32).to(DEVICE)
    if members:
        rows.tiles.rows[: len(members)] = torch.tensor(members, dtype=torch.int32).to(DEVICE)


def milliseconds(steps: DecodeSteps, case: Case) -> float:
    """Median of replays one behind the other."""
    events = [(torch.cuda.Event(True), torch.cuda.Event(True)) for _ in range(REPLAYS)]
    for begin, end in events:
        begin.record()
        steps.run(case.streams, adapted=case.adapters > 0)
        end.record()
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in events)


def case_of(label: str) -> Case:
    rows, adapters = label.split("/")
    return Case(int(rows), int(adapters))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.bench_steps")
    parser.add_argument("cases", nargs="*", type=case_of, default=[*map(case_of, CASES)])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--context", type=int, default=140, help="tokens of each row")
    parser.add_argument("--mode", default="exact", choices=("exact", "fast", "batch-invariant"))
    parser.add_argument("--apart", action="store_true", help="where each step goes")
    asked = parser.parse_args()
    config = ModelConfig.from_dict(
        {**MISTRAL_7B, "model_type": "mistral", "rms_norm_eps": 1e-5,
         "num_hidden_layers": asked.layers}
    )  # fmt: skip
    block_count = -(-asked.context // BLOCK_SIZE)
    model = make_model(config, asked.mode, MAX_ROWS * block_count)
    block = RowBlock.make(MAX_ROWS, block_count, DEVICE, pin=False)
    chosen = torch.zeros(MAX_ROWS, dtype=torch.int64, device=DEVICE)
    sizes = tuple(sorted({case.streams for case in asked.cases}))
    steps = DecodeSteps(model, block.rows, chosen, sizes=sizes)
    block.rows.kv_slots.fill_(-1)
    block.rows.row_slots.fill_(-1)
    block.rows.tiles.slots.fill_(-1)
    with torch.inference_mode():
        started = time.perf_counter()
        steps.record(GraphRecorder())
        print(f"recorded {sizes} in {time.perf_counter() - started:.1f} s", flush=True)
        for case in asked.cases:
            fill(block.rows.first(case.streams), case, asked.context, block_count)
            taken = milliseconds(steps, case)
            rate = case.streams / taken * 1e3
            print(f"{case.label:>8} {taken:7.3f} ms {rate:8.0f} tok/s", flush=True)
        for case in asked.cases if asked.apart else ():
            fill(block.rows.first(case.streams), case, asked.context, block_count)
            step = partial(steps.run, case.streams, adapted=case.adapters > 0)
            print_pulled_apart(Console(width=110), f"one step of {case.label}", pull_apart(step))


if __name__ == "__main__":
    main()
