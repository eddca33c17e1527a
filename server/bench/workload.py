"""What both sides are asked to do."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from registry.adapters import AdapterSpec
from registry.bases import BaseRecord

PROMPT_TOKENS = 64
SHORT, LONG = 8, 72  # generated tokens; decoding speed is taken between the two
RANK = 16
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Case:
    """So many greedy sequences at once, spread evenly over so many adapters (0: the bare base)."""

    streams: int
    adapters: int

    @property
    def label(self) -> str:
        return f"{self.streams}/{self.adapters}"

    def adapter_of(self, stream: int) -> str | None:
        return f"bench{stream % self.adapters}" if self.adapters else None


@dataclass(frozen=True)
class Measured:
    """One side's figures for one case.

    tokens_per_second: decoding, over the whole batch. first_token: seconds from submission to the
    first token of every stream.
    """

    tokens_per_second: float
    first_token: float

    def better(self, other: Measured | None) -> Measured:
        """The best of two rounds of the same work."""
        if other is None:
            return self
        return Measured(
            max(self.tokens_per_second, other.tokens_per_second),
            min(self.first_token, other.first_token),
        )


def decoding_speed(case: Case, short_seconds: float, long_seconds: float) -> float:
    """Tokens per second between SHORT and LONG generated tokens, prefill excluded."""
    return case.streams * (LONG - SHORT) / (long_seconds - short_seconds)


def prompts(case: Case, vocab_size: int, *, round_number: int) -> list[list[int]]:
    """Random prompts, new ones in every round so that no prefix cache helps anybody."""
    source = random.Random(f"{case.label}/{round_number}")
    return [
        [source.randrange(100, vocab_size - 100) for _ in range(PROMPT_TOKENS)]
        for _ in range(case.streams)
    ]


def write_adapters(
    folder: Path, record: BaseRecord, count: int, *, rank: int = RANK
) -> dict[str, Path]:
    """Random adapters on all linear layers, in PEFT's format, by name."""
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ALL_LINEAR,
        "base_model_name_or_path": record.name,
    }
    spec = AdapterSpec.from_config(config, record.config)
    folders = {}
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        path = folder / f"bench{number}"
        path.mkdir(parents=True)
        tensors = {
            name: (torch.randn(shape, generator=generator) * 0.01).bfloat16()
            for name, shape in spec.tensors.items()
        }
        save_file(tensors, path / "adapter_model.safetensors")
        (path / "adapter_config.json").write_text(json.dumps(config))
        folders[path.name] = path
    return folders
