"""The adapter's own two files, as PEFT names them, in bfloat16."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from .errors import TrainingDiverged
from .methods import Adapter

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"


def write_adapter(adapter: Adapter, folder: Path) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`.

    PEFT would save the fp32 weights that were trained; what is served is bfloat16, so that is
    what is saved, measured and signed for. Raises `TrainingDiverged` on values that are no numbers,
    and on tensors that are empty, as those of a partitioned model are.
    """
    from safetensors.torch import save_file

    tensors = {
        name: tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in sorted(adapter.tensors.items())
    }
    _check(tensors)
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors writes it for its owner alone
    _write_config(adapter.config, folder)


def target_modules(config: Any) -> list[str]:
    """The projections that carry the adapter, sorted; `all-linear` is spelled out by now."""
    modules = config.target_modules
    return [modules] if isinstance(modules, str) else sorted(modules)


def _check(tensors: dict[str, torch.Tensor]) -> None:
    empty = [name for name, tensor in tensors.items() if tensor.numel() == 0]
    if empty or not tensors:
        raise TrainingDiverged(
            f"{len(empty)} of {len(tensors)} trained tensors are empty: their parts were not "
            "gathered before saving."
        )
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise TrainingDiverged(
            f"{len(bad)} of {len(tensors)} trained tensors hold values that are no numbers "
            f"({bad[0]}): lower `train.learning_rate`."
        )


def _write_config(config: Any, folder: Path) -> None:
    """PEFT's own file with its keys and sets in order, so that equal runs give equal bytes."""
    config.inference_mode = True
    config.save_pretrained(str(folder))
    path = folder / CONFIG_FILE
    values = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(values["target_modules"], list):
        values["target_modules"] = sorted(values["target_modules"])
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
