"""Whatever it is trained by, an adapter is pushed, hot-loaded, and keeps its receipt."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from registry import Registry
from registry.bases import read_base
from registry.replay import replay
from training.commands import train

# bitsandbytes says what its 8-bit product does with its inputs.
pytestmark = pytest.mark.filterwarnings("ignore:MatMul8bitLt:UserWarning")

METHODS = {
    "16 bits": ["load.quantization=none"],
    "8 bits": ["load.quantization=int8"],
    "NF4 without double quantization": ["load.double_quantization=false"],
    "fp16, which a CPU lacks": ["train.precision=fp16", "load.compute_dtype=float16"],
    "full": ["method=full", "load.quantization=none", "train.learning_rate=2e-3"],
    "full, checkpointed": [
        "method=full", "load.quantization=none", "train.learning_rate=2e-3",
        "train.gradient_checkpointing=true",
    ],
    "DoRA": ["lora.dora=true", "lora.extract_rank=16"],
    "PiSSA": ["lora.init=pissa", "train.learning_rate=2e-3"],
    "OLoRA": ["lora.init=olora", "train.learning_rate=2e-3"],
    "rsLoRA": [
        "lora.rslora=true", "lora.rank_pattern={q_proj: 2}", "lora.alpha_pattern={k_proj: 3}",
    ],
    "packed, prompts too": [
        "train.packing=true", "train.max_length=200", "train.batch_size=1", "data.loss=full",
    ],
    "padded right, all turns, in order": [
        "data.padding=right", "data.pad_to_max_length=true", "train.max_length=64",
        "data.loss=assistant", "data.shuffle=false", "train.scheduler=warmup_decay",
        "lora.init=gaussian",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_a_method_ends_in_a_served_adapter(
    write_recipe: Any, tmp_path: Path, tiny_base: Path, name: str
) -> None:
    from server.proof.opening import open_host

    path = write_recipe(train={"max_steps": 6}, evaluate={"rows": 0})
    console = Console(file=io.StringIO())
    result = train(path, METHODS[name], "colors", tmp_path / "registry", console=console)
    losses = [loss for _, loss in result.metrics.curves.train]
    assert losses[-1] < losses[0]
    registry = Registry.open(tmp_path / "registry")
    version = registry.resolve("colors")
    assert registry.lock(version).base == read_base(tiny_base)
    with open_host(registry, str(tiny_base)) as host:
        assert replay(registry, version, host).num_probes == 2


def test_what_an_extraction_loses_is_said(write_recipe: Any, tmp_path: Path) -> None:
    settings = ["method=full", "load.quantization=none", "lora.r=1", "train.learning_rate=2e-3"]
    path = write_recipe(train={"max_steps": 4}, evaluate={"rows": 0})
    console = Console(file=io.StringIO())
    low = train(path, settings, console=console).metrics.numbers["captured"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"holds {low:.1%} of the trained change" in card
    assert "full fine-tune; " in card
    high = train(path, [*settings, "lora.extract_rank=32"], console=console)
    assert 0 < low < high.metrics.numbers["captured"] < 1  # embeddings and norms are lost
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (32, 32)
    # Every weight was trained: those of two layers, the embeddings and the head.
    assert high.metrics.num_trainable > 100_000
