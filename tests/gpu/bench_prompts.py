"""Whole prompt passes, recorded and replayed on random weights that are made in place.

    python -m tests.gpu.bench_prompts 1024 --apart

One prompt of each number of tokens: with an adapter of rank 16 inside the products, with it behind
them as in passes of several adapters, and without one. As `bench_steps`, without the host.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from rich.console import Console

from server.bench.device_report import print_pulled_apart
from server.bench.pull_apart import pull_apart
from server.engine.config import ModelConfig
from server.engine.device_model import DeviceModel, Rows
from server.engine.graphs import GraphRecorder, Work
from server.kernels.triton.chunks import PromptChunks
from server.kernels.triton.room import ROOM
from server.kernels.triton.tiles import PROMPT_ROWS, LoraTiles
from tests.gpu.bench_nf4_gemm import DEVICE
from tests.gpu.bench_steps import BLOCK_SIZE, make_model
from tests.gpu.shapes import MISTRAL_7B

REPLAYS = 15
BASE = -1


@dataclass(frozen=True)
class Prompt:
    """One prompt of so many tokens, and how its adapter is applied."""

    tokens: int
    slot: int
    is_shared: bool

    @property
    def label(self) -> str:
        adapter = "bare base" if self.slot == BASE else "an adapter"
        return f"{self.tokens} tokens, {adapter}, {'inside' if self.is_shared else 'behind'}"

    def work(self, model: DeviceModel) -> Work:
        """Its pass through the model."""
        tokens, blocks = self.tokens, -(-self.tokens // BLOCK_SIZE)

        def on_device(values: Any, dtype: torch.dtype = torch.int64) -> torch.Tensor:
            return torch.as_tensor(values, dtype=dtype, device=DEVICE)

        chunks = PromptChunks(
            on_device([0, tokens], torch.int32),
            on_device([tokens], torch.int32),
            torch.arange(blocks, dtype=torch.int32, device=DEVICE)[None],
            tokens,
        )
        room = ROOM if self.is_shared else 0
        attend = partial(model.kernels.prefill_attention, chunks=chunks, window=None, room=room)
        positions = torch.arange(tokens, device=DEVICE)
        tiles = LoraTiles.of([self.slot] * tokens, PROMPT_ROWS, DEVICE)
        token_ids = positions * 31 % model.config.vocab_size
        rows = Rows(token_ids, positions, positions, tiles, attend, is_shared=self.is_shared)
        last = on_device([tokens - 1])

        def work() -> None:
            model.logits(model.forward(rows)[last])

        return work


def prompts(tokens: int) -> Iterator[Prompt]:
    for slot in (0, BASE):
        for is_shared in (True, False):
            yield Prompt(tokens, slot, is_shared)


def recorded(model: DeviceModel, prompt: Prompt, recorder: GraphRecorder) -> Work:
    recorder.prepare([prompt.work(model.shallow)])
    return recorder.record(prompt.work(model))


def milliseconds(replay: Work) -> float:
    """Median of replays one behind the other."""
    replay()
    events = [(torch.cuda.Event(True), torch.cuda.Event(True)) for _ in range(REPLAYS)]
    for begin, end in events:
        begin.record()
        replay()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in events)


def model_of(layers: int, tokens: int) -> DeviceModel:
    shape = {**MISTRAL_7B, "model_type": "mistral", "rms_norm_eps": 1e-5}
    config = ModelConfig.from_dict({**shape, "num_hidden_layers": layers})
    return make_model(config, "exact", -(-tokens // BLOCK_SIZE))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.bench_prompts")
    parser.add_argument("tokens", nargs="*", type=int, default=[512, 1024, 2048])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--apart", action="store_true", help="where each pass goes")
    asked = parser.parse_args()
    model, recorder = model_of(asked.layers, max(asked.tokens)), GraphRecorder()
    with torch.inference_mode():
        for tokens in asked.tokens:
            for prompt in prompts(tokens):
                replay = recorded(model, prompt, recorder)
                print(f"{prompt.label:>40} {milliseconds(replay):7.3f} ms", flush=True)
                if asked.apart:
                    print_pulled_apart(Console(width=110), prompt.label, pull_apart(replay))


if __name__ == "__main__":
    main()
