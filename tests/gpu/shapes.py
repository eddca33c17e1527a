"""The shape that device figures are about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from registry.bases import NF4, BaseRecord, shape_fields
from server.bases import Base
from server.engine.config import ModelConfig
from tests.support.tiny import write_tiny_base, write_tokenizer

BYTE_LEVEL = 258  # tokens of the tiny bases' tokenizer

MISTRAL_7B: dict[str, Any] = {
    "vocab_size": 32768,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 32768,
    "initializer_range": 0.02,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}


def write_7b_shape(folder: Path, layers: int) -> Path:
    """Random bf16 weights in the shape of Mistral-7B, made on the device."""
    shape = {**MISTRAL_7B, "num_hidden_layers": layers}
    written = write_tiny_base(folder, dtype=torch.bfloat16, device="cuda", **shape)
    # A token without a text would be decoded again with each one after it.
    write_tokenizer(written, num_words=MISTRAL_7B["vocab_size"] - BYTE_LEVEL)
    torch.cuda.empty_cache()
    return written


def open_unhashed(folder: Path) -> Base:
    """A base whose shards nobody reads to know them by."""
    record = BaseRecord(
        name=folder.name,
        source=folder.name,
        revision=None,
        fingerprint="sha256:" + 64 * "0",
        quantization=NF4,
        config=shape_fields(json.loads((folder / "config.json").read_text())),
    )
    return Base(folder, record, ModelConfig.read(folder))
