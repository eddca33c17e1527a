"""Checkpoints in any of their forms become the same weights, or an error that says why not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitsandbytes.functional as bnb
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from server.engine.config import EngineSettings, ModelConfig
from server.engine.weights import LayerWeights, ModelWeights, load_weights
from server.errors import StartupError
from tests.support.tiny import write_tiny_base

LINEARS = ("qkv", "o", "gate_up", "down")


def load(folder: Path, **settings: Any) -> ModelWeights:
    config = ModelConfig.read(folder)
    chosen = EngineSettings(**{"dtype": torch.float32, "weights": "nf4", **settings})
    return load_weights(folder, config, chosen.for_model(config))


def values(weights: ModelWeights) -> dict[str, torch.Tensor]:
    """Every tensor as it is multiplied, found by multiplying."""
    found = {"embedding": weights.embedding, "norm": weights.final_norm, "head": weights.head}
    for index, layer in enumerate(weights.layers):
        for name in LINEARS:
            found[f"{index}.{name}"] = multiplied(layer, name, weights.embedding.dtype)
        found[f"{index}.input_norm"] = layer.input_norm
        found[f"{index}.post_attention_norm"] = layer.post_attention_norm
    return found


def multiplied(layer: LayerWeights, name: str, dtype: torch.dtype) -> torch.Tensor:
    into = {"o": 64, "down": 128}.get(name, 64)
    return getattr(layer, name)(torch.eye(into, dtype=dtype)).T


def assert_same(one: ModelWeights, other: ModelWeights) -> None:
    left, right = values(one), values(other)
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    """A copy of the tiny base, to break."""
    return shutil.copytree(tiny_base, tmp_path / "base")


def test_dense_weights_are_the_checkpoints_own(base: Path) -> None:
    found = values(load(base, weights="dense"))
    stored = load_file(base / "model.safetensors")
    parts = [stored[f"model.layers.1.self_attn.{p}_proj.weight"] for p in "qkv"]
    assert torch.equal(found["1.qkv"], torch.cat(parts))
    assert torch.equal(found["1.down"], stored["model.layers.1.mlp.down_proj.weight"])
    assert torch.equal(found["head"], stored["lm_head.weight"])
    assert torch.equal(found["norm"], stored["model.norm.weight"])


def test_nf4_weights_have_the_values_that_bitsandbytes_gives_back(base: Path) -> None:
    down = load_file(base / "model.safetensors")["model.layers.1.mlp.down_proj.weight"]
    codes, state = bnb.quantize_4bit(down, blocksize=64, compress_statistics=True, quant_type="nf4")
    assert torch.equal(values(load(base))["1.down"], bnb.dequantize_4bit(codes, state))


def test_shards_are_read_as_one_checkpoint(base: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    model.save_pretrained(tmp_path / "sharded", max_shard_size="100KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    assert_same(load(tmp_path / "sharded"), load(base))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_ready_nf4_checkpoint_is_what_quantizing_at_load_makes(
    base: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    model = AutoModelForCausalLM.from_pretrained(
        base, quantization_config=quantization, dtype=dtype
    )
    model.save_pretrained(tmp_path / "ready")
    assert "quantization_config" in json.loads((tmp_path / "ready" / "config.json").read_text())
    ready = load(tmp_path / "ready", dtype=dtype)
    assert_same(ready, load(base, dtype=dtype))
    assert_same(ready, load(base, dtype=dtype, weights="nf4-shadow"))


def test_four_bits_take_less_memory_than_their_copy(base: Path) -> None:
    assert load(base).nbytes < load(base, weights="nf4-shadow").nbytes


def test_tied_embeddings_are_held_once(tmp_path: Path) -> None:
    weights = load(write_tiny_base(tmp_path / "tied", tie_word_embeddings=True))
    assert weights.head is weights.embedding


def test_progress_counts_layers(base: Path) -> None:
    seen: list[tuple[int, int]] = []
    config = ModelConfig.read(base)
    settings = EngineSettings(weights="dense", dtype=torch.float32)
    load_weights(base, config, settings, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "model.layers.1.self_attn.k_proj.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "lm_head.weight",
    ],
)
def test_a_missing_tensor_is_named(base: Path, name: str) -> None:
    file = base / "model.safetensors"
    save_file({key: value for key, value in load_file(file).items() if key != name}, file)
    with pytest.raises(StartupError, match=name):
        load(base)


def test_a_folder_without_weights_says_so(base: Path) -> None:
    (base / "model.safetensors").unlink()
    with pytest.raises(StartupError, match=r"no model\.safetensors"):
        load(base)


def test_quantized_weights_cannot_be_taken_as_dense(base: Path, tmp_path: Path) -> None:
    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = AutoModelForCausalLM.from_pretrained(base, quantization_config=quantization)
    model.save_pretrained(tmp_path / "ready")
    with pytest.raises(StartupError, match="quantized"):
        load(tmp_path / "ready", weights="dense")


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
@pytest.mark.parametrize("weights", ["dense", "nf4"])
def test_eight_bits_are_not_taken_for_their_values(
    base: Path, dtype: torch.dtype, weights: str
) -> None:
    file, name = base / "model.safetensors", "model.layers.0.mlp.down_proj.weight"
    stored = load_file(file)
    save_file({**stored, name: stored[name].to(dtype)}, file)
    with pytest.raises(StartupError, match=f"{name}.*quantized"):
        load(base, weights=weights)


def test_another_kind_of_four_bits_is_refused_by_name(base: Path, tmp_path: Path) -> None:
    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4")
    model = AutoModelForCausalLM.from_pretrained(base, quantization_config=quantization)
    model.save_pretrained(tmp_path / "fp4")
    with pytest.raises(StartupError, match="fp4"):
        load(tmp_path / "fp4")


def test_blocks_that_straddle_projections_are_refused_by_name(tmp_path: Path) -> None:
    shape = {"hidden_size": 20, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 6}
    base = write_tiny_base(tmp_path / "odd", **shape)
    with pytest.raises(StartupError, match=r"q_proj.*whole blocks of 64"):
        load(base)


def config_of(base: Path, **changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((base / "config.json").read_text())
    return {**config, **changes}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "llama"}, "'llama' model"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"num_attention_heads": 4, "num_key_value_heads": 8}, "4 attention heads for 8 KV heads"),
        ({"num_attention_heads": 4, "num_key_value_heads": 3}, "4 attention heads for 3 KV heads"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rope type 'yarn'"),
    ],
)
def test_a_model_that_cannot_be_run_is_refused(
    base: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(StartupError, match=says):
        ModelConfig.from_dict(config_of(base, **changes))


@pytest.mark.parametrize("key", ["vocab_size", "rms_norm_eps", "max_position_embeddings"])
def test_a_configuration_without_a_shape_is_refused_by_name(base: Path, key: str) -> None:
    config = config_of(base)
    del config[key]
    with pytest.raises(StartupError, match=key):
        ModelConfig.from_dict(config)


def test_a_configuration_that_is_no_json_is_refused(base: Path) -> None:
    (base / "config.json").write_text("{")
    with pytest.raises(StartupError, match=r"config\.json"):
        ModelConfig.read(base)


def test_auto_takes_the_copy_only_where_it_is_small(base: Path) -> None:
    config, auto = ModelConfig.read(base), EngineSettings()
    assert auto.for_model(config).weights == "nf4-shadow"
    assert auto.for_model(config, is_compiled=True).weights == "nf4"
    assert replace(auto, device="cuda").for_model(config).weights == "nf4"
    large = replace(config, num_layers=32, hidden_size=4096, intermediate_size=14336)
    assert auto.for_model(large).weights == "nf4"
