"""Sound inputs for the fuzzer to start from."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from registry.bases import BaseRecord
from registry.lock import Lock
from registry.manifest import LOCK_TYPE, Descriptor, Manifest
from tests.registry.making import TINY_CONFIG, write_safetensors
from tests.server.api.test_tools import HERMES, MISTRAL

DIGEST = "sha256:" + "0" * 64
REQUESTS = Path(__file__).parent / "requests"


def seeds() -> dict[str, list[bytes]]:
    """Target → inputs that it accepts."""
    lock = Descriptor(LOCK_TYPE, DIGEST, 2)
    layer = Descriptor("application/json", DIGEST, 3, "adapter_config.json")
    return {
        "adapter_config": [json.dumps(config).encode() for config in _configs()],
        "hat": [
            b'{"stop": [";"], "sampling": {"top_p": 0.5}}\0{% for m in messages %}{% endfor %}'
        ],
        "lock": [_lock().to_bytes()],
        "manifest": [Manifest(lock, (layer,)).to_bytes()],
        "recipe": [_recipe()],
        "reference": [b"sql", b"sql@prod", b"sql@7", DIGEST.encode(), b"hf://org/name@main"],
        "registry_api": _requests("registry_api"),
        "safetensors": [_safetensors()],
        "server_api": _requests("server_api"),
        "template": [template.encode() for template in (HERMES, MISTRAL)],
    }


def _configs() -> list[dict[str, object]]:
    plain = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj", "v_proj"]}
    return [
        {**plain, "rank_pattern": {r"layers\.0\..*": 2}, "alpha_pattern": {"q_proj": 3}},
        {**plain, "layers_to_transform": [0], "layers_pattern": "layers", "use_rslora": True},
        {**plain, "target_modules": r"(.*\.)?(q|k)_proj", "exclude_modules": ["mlp"]},
    ]


def _lock() -> Lock:
    base = BaseRecord(
        name="tiny", source="test", fingerprint=DIGEST, quantization={}, config=TINY_CONFIG
    )
    return Lock(
        base=base, adapter_dtype="float32", rank=4, target_modules=("q_proj",), data={"a": DIGEST}
    )


def _recipe() -> bytes:
    recipe = Path(__file__).parents[2] / "training" / "recipes" / "seed-2-sql-lora.yaml"
    return recipe.read_bytes()


def _safetensors() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        write_safetensors(path, {"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.uint16)})
        return path.read_bytes()


def _requests(name: str) -> list[bytes]:
    """One for every operation of an API, and those that faults were found by."""
    return (REQUESTS / f"{name}.http").read_bytes().split(b"\n###\n")
