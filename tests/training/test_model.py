"""The NF4 base stays exact, adapters have the sizes they should."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from registry.bases import read_base
from training.errors import BaseError
from training.model import attach, count_parameters, keep_weights_exact, load_base, lora_config
from training.recipe import LoraSettings


@pytest.fixture(scope="module")
def mistral_7b() -> Any:
    """Mistral-7B's modules without its weights."""
    from transformers import MistralConfig, MistralForCausalLM

    with torch.device("meta"):
        return MistralForCausalLM(MistralConfig())


# The adapters of five published Mistral-7B fine-tunes, and how many parameters they train.
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"r": 8, "target_modules": ("q_proj", "up_proj", "o_proj", "k_proj")}, 10_223_616),
        ({"r": 8, "target_modules": ("q_proj", "v_proj")}, 3_407_872),
        ({"r": 8, "target_modules": ("q_proj",)}, 2_097_152),
        ({"r": 32, "target_modules": "all-linear"}, 83_886_080),
        (
            {
                "r": 32,
                "target_modules": (
                    "gate_proj", "down_proj", "up_proj", "q_proj", "v_proj", "k_proj", "o_proj",
                ),
            },
            83_886_080,
        ),
        # 32 layers, q_proj [4096, 4096] at rank 4 and v_proj [1024, 4096] at rank 8
        (
            {"r": 8, "target_modules": ("q_proj", "v_proj"), "rank_pattern": {"q_proj": 4}},
            32 * (4 * 8192 + 8 * 5120),
        ),
    ],
)  # fmt: skip
def test_trained_parameters(
    mistral_7b: Any, tiny_base: Path, settings: dict[str, Any], expected: int
) -> None:
    config = lora_config(LoraSettings(**settings))
    model = attach(mistral_7b, config, read_base(tiny_base))
    assert count_parameters(model) == expected
    model.unload()


def test_a_target_that_is_not_there_is_an_error(mistral_7b: Any, tiny_base: Path) -> None:
    config = lora_config(LoraSettings(target_modules=("query",)))
    with pytest.raises(BaseError, match="target_modules"):
        attach(mistral_7b, config, read_base(tiny_base))


def test_the_configuration_records_base_and_scaling(tiny_base: Path) -> None:
    record = read_base(tiny_base).model_copy(update={"source": "org/name", "revision": "abc"})
    settings = LoraSettings(r=4, alpha=8, rslora=True, alpha_pattern={"q_proj": 2.5})
    model = attach(load_base(tiny_base), lora_config(settings), record)
    config = model.peft_config["default"]
    assert (config.base_model_name_or_path, config.revision) == ("org/name", "abc")
    layer = model.base_model.model.model.layers[0].self_attn
    assert layer.k_proj.scaling["default"] == 8 / 4**0.5
    assert layer.q_proj.scaling["default"] == 2.5 / 4**0.5


def test_a_folder_that_is_no_checkpoint_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BaseError, match="cannot be loaded"):
        load_base(tmp_path)


def quantized(model: Any) -> dict[str, torch.Tensor]:
    """The quantized bytes and scales of every projection."""
    import bitsandbytes

    tensors = {}
    for name, module in model.named_modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            state = module.weight.quant_state
            tensors[name] = module.weight.data.clone()
            tensors[f"{name}.absmax"] = state.absmax.clone()
    return tensors


def test_evaluating_leaves_the_quantized_weights_bit_identical(tiny_base: Path) -> None:
    """On CPUs with AVX512-BF16, bitsandbytes would repack them with rounded scales."""
    model = load_base(tiny_base)
    before = quantized(model)
    assert len(before) == 2 * 7 * 2
    ids = torch.arange(3, 40)[None]
    model.eval()
    with torch.no_grad():
        first = model(ids).logits
    model.train()
    model(ids).logits.sum()
    model.eval()
    with torch.no_grad():
        again = model(ids).logits
    assert torch.equal(first, again)
    after = quantized(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_cpu_without_bfloat16_computes_in_float32_on_the_same_weights(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = torch.arange(3, 40)[None]
    loaded = {}
    for native in (True, False):
        monkeypatch.setattr("bitsandbytes.functional.has_avx512bf16", lambda native=native: native)
        model = load_base(tiny_base).eval()
        with torch.no_grad():
            loaded[native] = quantized(model), model(ids).logits
    (weights, logits), (same, others) = loaded[True], loaded[False]
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert (logits.dtype, others.dtype) == (torch.bfloat16, torch.float32)
    # Two layers of random weights: apart by bfloat16's rounding, a few parts in a hundred.
    assert (logits.float() - others).norm() < 0.03 * others.norm()


def test_keeping_weights_exact_reaches_every_projection(tiny_base: Path) -> None:
    import bitsandbytes

    model = load_base(tiny_base)
    modules = [m for m in model.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    for module in modules:
        module.support_avx512bf16_for_cpu = True
    keep_weights_exact(model)
    assert not any(module.support_avx512bf16_for_cpu for module in modules)


def test_pefts_warning_is_the_only_one_silenced() -> None:
    from training.model import quiet

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with quiet():
            warnings.warn("`is_gradient_checkpointing` is deprecated and", FutureWarning, 2)
            warnings.warn("something else", UserWarning, 2)
    assert [str(warning.message) for warning in seen] == ["something else"]
