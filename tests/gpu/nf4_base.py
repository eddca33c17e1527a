"""A base and adapters with random weights, made and quantized on the device.

The checkpoint is written in bitsandbytes' own 4-bit form, so that whoever opens it, the engine or
transformers, multiplies with the very same weights, and no 14 GB pass through a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import bitsandbytes.functional as bnb
import torch
from safetensors.torch import save_file
from transformers import BitsAndBytesConfig, MistralConfig

from registry.adapters import AdapterSpec
from registry.bases import BaseRecord
from server.engine.config import GROUPS, ModelConfig
from tests.gpu.shapes import BYTE_LEVEL
from tests.support.tiny import ALL_LINEAR, write_tokenizer

STD = 0.02


def write_nf4_base(folder: Path, shape: dict[str, Any], *, device: str = "cuda") -> Path:
    """A random MistralForCausalLM of this shape, its linear layers in NF4."""
    folder.mkdir(parents=True)
    config = MistralConfig(
        **{"sliding_window": None, "bos_token_id": 256, "eos_token_id": 257, **shape},
        architectures=["MistralForCausalLM"],
        dtype="bfloat16",
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        ).to_dict(),
    )
    config.save_pretrained(folder)
    write_tokenizer(folder, num_words=config.vocab_size - BYTE_LEVEL)
    torch.manual_seed(1234)
    tensors = dict(_tensors(ModelConfig.read(folder), torch.device(device)))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _tensors(config: ModelConfig, device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    vocabulary = (config.vocab_size, config.hidden_size)
    yield "model.embed_tokens.weight", _normal(*vocabulary, device=device)
    yield "lm_head.weight", _normal(*vocabulary, device=device)
    yield "model.norm.weight", _near_one(config, device)
    for layer in range(config.num_layers):
        prefix = f"model.layers.{layer}"
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{prefix}.{name}.weight", _near_one(config, device)
        for group, projections in GROUPS.items():
            part = "self_attn" if group in ("qkv", "o") else "mlp"
            for projection in projections:
                weight = _normal(*config.projection_shape(projection), device=device)
                yield from _quantized(f"{prefix}.{part}.{projection}.weight", weight)


def _quantized(name: str, weight: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    codes, state = bnb.quantize_4bit(
        weight, blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    yield name, codes
    for key, value in state.as_dict(packed=True).items():
        yield f"{name}.{key}", value.contiguous()


def _normal(*shape: int, device: torch.device) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.bfloat16, device=device).normal_(std=STD)


def _near_one(config: ModelConfig, device: torch.device) -> torch.Tensor:
    return 1 + 5 * _normal(config.hidden_size, device=device)


def write_random_adapter(
    folder: Path,
    record: BaseRecord,
    *,
    rank: int,
    targets: Sequence[str] = ALL_LINEAR,
    device: str = "cuda",
) -> Path:
    """An adapter in PEFT's format that changes its layers by about an eighth of their weights."""
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank**0.5,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(targets),
        "base_model_name_or_path": record.name,
    }
    folder.mkdir(parents=True)
    spec = AdapterSpec.from_config(config, record.config)
    torch.manual_seed(rank)
    tensors = {
        name: torch.empty(shape, dtype=torch.bfloat16, device=device).normal_(std=0.05)
        for name, shape in spec.tensors.items()
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
