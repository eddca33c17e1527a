"""Small valid things for the registry's tests to start from, then break."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from registry.adapters import AdapterSpec
from registry.bases import BaseRecord
from registry.lock import Lock

TINY_CONFIG: dict[str, Any] = {
    "model_type": "mistral",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "vocab_size": 64,
    "tie_word_embeddings": True,
    "max_position_embeddings": 128,
}

TINY_BASE = BaseRecord(
    name="tiny",
    source="test",
    fingerprint="sha256:" + "1" * 64,
    quantization={},
    config=TINY_CONFIG,
)

DTYPES = {"float32": "F32", "float16": "F16", "uint16": "BF16", "float64": "F64", "int32": "I32"}


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Write tensors as safetensors lays them out; uint16 arrays are taken as bfloat16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, array in tensors.items():
        content = array.tobytes()
        header[name] = {
            "dtype": DTYPES[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def adapter_tensors(config: Mapping[str, Any], *, seed: int = 0) -> dict[str, Any]:
    """Random factors for everything `config` adapts on the tiny base."""
    generator = np.random.default_rng(seed)
    spec = AdapterSpec.from_config(config, TINY_CONFIG)
    return {
        name: generator.standard_normal(shape).astype(np.float32)
        for name, shape in spec.tensors.items()
    }


def make_adapter(
    folder: Path,
    *,
    seed: int = 0,
    tensors: Mapping[str, np.ndarray[Any, Any]] | None = None,
    lock: BaseRecord | None = None,
    **config: Any,
) -> Path:
    """A PEFT adapter folder; with `lock`, also a `lock.json` for that base."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    values.update(config)
    (folder / "adapter_config.json").write_text(json.dumps(values))
    weights = adapter_tensors(values, seed=seed) if tensors is None else tensors
    write_safetensors(folder / "adapter_model.safetensors", weights)
    if lock is not None:
        Lock(base=lock, adapter_dtype="float32", rank=4, target_modules=("q_proj", "v_proj")).write(
            folder
        )
    return folder
