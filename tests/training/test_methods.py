"""What is saved is what was trained, whatever the method, on the base that serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from registry.bases import read_base
from training.errors import BaseError
from training.methods.dora import Dora, merged_change
from training.methods.factors import compact, nearest
from training.methods.full import extract
from training.methods.layers import adapted, dense_weight, tensor_names
from training.methods.origins import OriginLora
from training.model import load_base, quiet
from training.recipe import LoraSettings

IDS = torch.arange(3, 40)[None]


@pytest.fixture(autouse=True)
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU without bfloat16: what is compared is arithmetic, not its rounding."""
    monkeypatch.setattr("bitsandbytes.functional.has_avx512bf16", lambda: False)


def moved(model: Any) -> Any:
    """With every trained parameter pushed off its place."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "magnitude" not in name:
                parameter += 0.05 * torch.randn_like(parameter)
    return model


def logits(model: Any) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits.float()
    return found


def on_a_fresh_base(adapter: Any, base: Path, folder: Path) -> Any:
    """The adapter as a server of plain LoRA would have it, in fp32."""
    from peft import PeftModel
    from safetensors.torch import save_file

    folder.mkdir()
    adapter.config.save_pretrained(str(folder))
    tensors = {name: tensor.contiguous() for name, tensor in adapter.tensors.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    with quiet():
        return PeftModel.from_pretrained(load_base(base), str(folder))


def test_compact_factors_have_the_same_product_and_no_large_terms() -> None:
    torch.manual_seed(0)
    big_b, big_a = 100 * torch.randn(30, 4), 100 * torch.randn(4, 50)
    small_b, small_a = big_b + 0.01 * torch.randn(30, 4), big_a + 0.01 * torch.randn(4, 50)
    left, right = torch.cat([small_b, -big_b], 1), torch.cat([small_a, big_a], 0)
    exact = left.double() @ right.double()
    b, a = compact(left, right)
    torch.testing.assert_close((b @ a).double(), exact, rtol=1e-3, atol=1e-3 * exact.abs().max())
    in_bf16 = b.bfloat16().double() @ a.bfloat16().double()
    naive = left.bfloat16().double() @ right.bfloat16().double()
    # Rounded as they are, the large terms would no longer cancel.
    assert (in_bf16 - exact).norm() < 0.02 * exact.norm() < (naive - exact).norm()


def test_the_nearest_product_is_the_leading_part() -> None:
    torch.manual_seed(0)
    exact = torch.randn(20, 3) @ torch.randn(3, 30)
    b, a = nearest(exact, 3)
    torch.testing.assert_close(b @ a, exact, rtol=1e-4, atol=1e-4)
    noisy = exact + 0.01 * torch.randn(20, 30)
    values = torch.linalg.svdvals(noisy)
    b, a = nearest(noisy, 3)
    torch.testing.assert_close((noisy - b @ a).norm(), values[3:].norm(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("init", ["pissa", "olora"])
@pytest.mark.parametrize("rslora", [False, True])
def test_pissa_and_olora_come_out_as_plain_adapters_of_the_untouched_base(
    tiny_base: Path, tmp_path: Path, init: Any, rslora: bool
) -> None:
    settings = LoraSettings(
        r=4, alpha=8, rslora=rslora, init=init, rank_pattern={"q_proj": 2}, dropout=0.1
    )
    bare = logits(load_base(tiny_base))
    method = OriginLora(settings, read_base(tiny_base), checkpointing=False, init=init)
    model = method.prepare(load_base(tiny_base))
    assert not any(p.requires_grad for n, p in model.named_parameters() if ".origin." in n)
    # Begun at a large part of the weights, and yet the base answers as before.
    layer = model.base_model.model.model.layers[0].mlp.up_proj
    share = (
        layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    )
    assert share.norm() > 0.1 * dense_weight(layer.get_base_layer()).norm()
    torch.testing.assert_close(logits(model), bare, rtol=1e-3, atol=1e-3)
    trained = logits(moved(model))
    assert (trained - bare).norm() > 0.1 * bare.norm()
    adapter = method.finish(model)
    assert (adapter.config.r, adapter.config.lora_alpha) == (8, 8)
    name_a, _ = tensor_names("model.layers.1.self_attn.q_proj")
    assert len(adapter.tensors[name_a]) == 4
    served = logits(on_a_fresh_base(adapter, tiny_base, tmp_path / "adapter"))
    torch.testing.assert_close(served, trained, rtol=1e-3, atol=1e-3)


def test_a_principal_beginning_is_the_weight_s_own(tiny_base: Path) -> None:
    settings = LoraSettings(r=4, alpha=8, init="pissa", target_modules=("q_proj",))
    method = OriginLora(settings, read_base(tiny_base), checkpointing=False, init="pissa")
    model = method.prepare(load_base(tiny_base))
    for _, layer in adapted(model):
        weight = dense_weight(layer.get_base_layer())
        part = layer.scaling["default"] * (
            layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        )
        values = torch.linalg.svdvals(weight)
        torch.testing.assert_close(torch.linalg.svdvals(part)[:4], values[:4], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close((weight - part).norm(), values[4:].norm(), rtol=1e-3, atol=1e-3)


def test_dora_s_change_is_what_its_layers_compute(tiny_base: Path, tmp_path: Path) -> None:
    settings = LoraSettings(r=4, alpha=8, dora=True, target_modules=("q_proj", "down_proj"))
    method = Dora(settings, read_base(tiny_base), checkpointing=False, rank=64)
    model = moved(method.prepare(load_base(tiny_base)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "magnitude" in name:
                parameter *= 1.2
    for _, layer in adapted(model):
        x = torch.randn(3, layer.in_features)
        weight = dense_weight(layer.get_base_layer()) + merged_change(layer)
        torch.testing.assert_close(layer(x), x @ weight.t(), rtol=1e-3, atol=1e-3)
    adapter = method.finish(model)  # rank 64 is full here, so nothing is lost
    assert adapter.captured == pytest.approx(1.0, abs=1e-4)
    assert not adapter.config.use_dora
    served = logits(on_a_fresh_base(adapter, tiny_base, tmp_path / "adapter"))
    torch.testing.assert_close(served, logits(model), rtol=1e-3, atol=1e-3)
    low = Dora(settings, read_base(tiny_base), checkpointing=False, rank=2).finish(model)
    assert low.captured is not None
    assert 0 < low.captured < 0.9


def test_extraction_counts_what_it_leaves_behind() -> None:
    torch.manual_seed(0)
    before = {"a.q_proj.weight": torch.randn(6, 8), "norm.weight": torch.randn(8)}
    change = torch.randn(6, 2) @ torch.randn(2, 8)
    after = {
        "a.q_proj.weight": before["a.q_proj.weight"] + change,
        "norm.weight": before["norm.weight"],
    }
    adapter = extract(before, after, ["a.q_proj"], 2)
    name_a, name_b = tensor_names("a.q_proj")
    product = adapter.tensors[name_b] @ adapter.tensors[name_a]
    torch.testing.assert_close(product, change, rtol=1e-4, atol=1e-4)
    assert adapter.captured == pytest.approx(1.0, abs=1e-4)
    after["norm.weight"] = before["norm.weight"] + change.norm() / 8**0.5
    assert extract(before, after, ["a.q_proj"], 2).captured == pytest.approx(0.5, abs=1e-3)
    after["norm.weight"] = torch.empty(0)
    with pytest.raises(BaseError, match="is it partitioned"):
        extract(before, after, ["a.q_proj"], 2)
