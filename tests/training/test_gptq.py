"""A GPTQ checkpoint multiplies as the numbers in it say, and trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from training.errors import BaseError
from training.gptq import GptqLinear, unpack
from training.model import load_base
from training.recipe import LoadSettings

GPTQ = LoadSettings(quantization="gptq")
GROUP = 32
Quantized = tuple[dict[str, torch.Tensor], torch.Tensor]


def pack(values: torch.Tensor, bits: int = 4) -> torch.Tensor:
    """Whole numbers [rows, n] → int32 [rows, n · bits / 32], the first one in the lowest bits."""
    shifts = torch.arange(0, 32, bits)
    packed = (values.long().unflatten(1, (-1, len(shifts))) << shifts).sum(-1)
    return torch.where(packed >= 2**31, packed - 2**32, packed).to(torch.int32)


def quantize(weight: torch.Tensor, group: int = GROUP, *, by_activation: bool = True) -> Quantized:
    """Round to nearest in groups of inputs; the packed parts and what they stand for.

    `by_activation` is GPTQ's `desc_act`: groups are of inputs that are alike in size, wherever they
    stand. The last group is smaller where the inputs do not divide.
    """
    out_features, in_features = weight.shape
    order = torch.arange(in_features)
    if by_activation:
        order = weight.float().norm(dim=0).argsort(descending=True)
    index = torch.empty(in_features, dtype=torch.int32)
    index[order] = (torch.arange(in_features) // group).to(torch.int32)
    num_groups = -(-in_features // group)
    scales, zeros = torch.zeros(2, out_features, num_groups)
    for number in range(num_groups):
        own = weight.float()[:, index == number]
        low, high = own.amin(-1).clamp(max=0), own.amax(-1).clamp(min=0)
        scales[:, number] = ((high - low) / 15).clamp(min=1e-6).half().float()
        zeros[:, number] = (-low / scales[:, number]).round().clamp(0, 15)
    values = (weight.float() / scales[:, index] + zeros[:, index]).round().clamp(0, 15)
    parts = {
        "qweight": pack(values).t().contiguous(),
        "qzeros": pack((zeros.t() - 1) % 16),
        "scales": scales.t().half().contiguous(),
        "g_idx": index,
        "bias": torch.zeros(out_features, dtype=torch.float16),
    }
    return parts, scales[:, index] * (values - zeros[:, index])


def gptq_checkpoint(base: Path, folder: Path, group: int = GROUP) -> dict[str, torch.Tensor]:
    """Write `base` in GPTQ; returns what each projection's weight has become."""
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(base, folder)
    tensors, written, dense = load_file(base / "model.safetensors"), {}, {}
    for name, tensor in tensors.items():
        if "_proj." in name:
            module = name.removesuffix(".weight")
            parts, dense[module] = quantize(tensor, group)
            written |= {f"{module}.{part}": value for part, value in parts.items()}
        else:
            written[name] = tensor
    save_file(written, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "gptq", "bits": 4, "group_size": group, "desc_act": True, "sym": False,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return dense


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_unpacking_is_the_inverse_of_packing(bits: int) -> None:
    values = torch.randint(0, 2**bits, (3, 64))
    assert torch.equal(unpack(pack(values, bits), bits), values)


def test_a_checkpoint_answers_as_its_dense_weights(tiny_base: Path, tmp_path: Path) -> None:
    from transformers import MistralForCausalLM

    dense = gptq_checkpoint(tiny_base, tmp_path / "gptq")
    loaded = load_base(tmp_path / "gptq", GPTQ, dtype=torch.float32)
    plain: Any = MistralForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    for name, weight in dense.items():
        layer = loaded.get_submodule(name)
        assert isinstance(layer, GptqLinear)
        torch.testing.assert_close(layer.dense(), weight, rtol=0, atol=1e-6)
        plain.get_submodule(name).weight.data = weight
    ids = torch.arange(3, 30)[None]
    torch.testing.assert_close(loaded(ids).logits, plain(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("by_activation", [True, False])
def test_groups_need_not_divide_the_inputs(by_activation: bool) -> None:
    """SmolLM2's 576 inputs are four and a half groups of 128; zero points reach from 0 to 15."""
    weight = torch.randn(16, 576)
    weight[0] = weight[0].abs()  # its zero points are 0, which the format stores as 15
    weight[1] = -weight[1].abs()
    parts, dense = quantize(weight, 128, by_activation=by_activation)
    assert parts["scales"].shape == (5, 16)
    layer = GptqLinear(parts, bits=4, zero_offset=1)
    torch.testing.assert_close(layer.dense(), dense, rtol=0, atol=1e-6)
    assert (layer.dense() - weight).abs().max() < 0.5  # it is the weight, but for rounding


def test_gradients_pass_through_the_packed_weights() -> None:
    weight = torch.randn(8, 64)
    parts, dense = quantize(weight)
    layer = GptqLinear(parts, bits=4, zero_offset=1)
    assert (layer.in_features, layer.out_features) == (64, 8)
    x = torch.randn(2, 3, 64, requires_grad=True)
    layer(x).square().sum().backward()
    expected = torch.autograd.grad((x @ dense.t()).square().sum(), x)[0]
    assert x.grad is not None
    torch.testing.assert_close(x.grad, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 3}, "3 bits is not known"),
        ({"checkpoint_format": "marlin"}, "'marlin' is not known"),
        ({"quant_method": "awq"}, "is quantized by awq"),
    ],
)
def test_other_variants_are_refused(
    tiny_base: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    gptq_checkpoint(tiny_base, tmp_path / "gptq")
    path = tmp_path / "gptq" / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] |= change
    path.write_text(json.dumps(config))
    with pytest.raises(BaseError, match=message):
        load_base(tmp_path / "gptq", GPTQ)


def test_what_is_not_gptq_is_not_read_as_such(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(BaseError, match="is not quantized"):
        load_base(tiny_base, GPTQ)
    gptq_checkpoint(tiny_base, tmp_path / "gptq")
    with pytest.raises(BaseError, match=r"set `load.quantization: gptq` and `serve_on`"):
        load_base(tmp_path / "gptq")
