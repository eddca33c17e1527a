"""A base with random weights in GPTQ, as the third article's checkpoint lies on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import MistralConfig, MistralForCausalLM

from tests.gpu.shapes import BYTE_LEVEL
from tests.support.tiny import write_tokenizer

BITS, GROUP = 4, 128
MIDDLE = 8  # the symmetric zero point
# Codes drawn evenly from 1 to 15 lie 4.3 from their mean: weights with a deviation of 0.02. With a
# 0 among them that mean is not the zero point, and 32 layers of such weights overflow fp16.
SCALE = 0.02 / 4.3


def write_gptq_base(folder: Path, shape: dict[str, Any], *, device: str = "cuda") -> Path:
    """A random MistralForCausalLM of this shape: 4 bits, groups of 128, order of activation."""
    folder.mkdir(parents=True)
    config = MistralConfig(
        **{"sliding_window": None, "bos_token_id": 256, "eos_token_id": 257, **shape},
        architectures=["MistralForCausalLM"],
        dtype="float16",
        quantization_config={
            "quant_method": "gptq", "bits": BITS, "group_size": GROUP, "damp_percent": 0.1,
            "desc_act": True, "sym": True, "true_sequential": True,
        },
    )  # fmt: skip
    config.save_pretrained(folder)
    write_tokenizer(folder, num_words=config.vocab_size - BYTE_LEVEL)
    torch.manual_seed(1234)
    del config.quantization_config
    with torch.device("meta"):
        model = MistralForCausalLM(config)
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name.endswith("_proj.weight"):
            out, inputs = tensor.shape
            tensors |= _packed(name.removesuffix(".weight"), out, inputs, device)
        else:
            mean = 1.0 if "norm" in name else 0.0
            drawn = torch.empty(tensor.shape, dtype=torch.float16, device=device)
            tensors[name] = drawn.normal_(mean, std=0.02)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _packed(name: str, out: int, inputs: int, device: str) -> dict[str, torch.Tensor]:
    per, groups = 32 // BITS, -(-inputs // GROUP)
    codes = torch.zeros(inputs // per, out, dtype=torch.int32, device=device)
    for place in range(per):
        drawn = torch.randint(1, 2**BITS, codes.shape, dtype=torch.int32, device=device)
        codes |= drawn << BITS * place
    zero = sum((MIDDLE - 1) << BITS * place for place in range(per))  # stored less one
    scales = torch.empty(groups, out, device=device).uniform_(0.5 * SCALE, 1.5 * SCALE)
    return {
        f"{name}.qweight": codes,
        f"{name}.qzeros": torch.full((groups, out // per), zero, dtype=torch.int32, device=device),
        f"{name}.scales": scales.half(),
        f"{name}.g_idx": (torch.randperm(inputs, device=device) // GROUP).int(),
    }
