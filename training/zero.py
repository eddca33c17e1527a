"""DeepSpeed's configuration (ZeRO: arXiv 1910.02054), read and checked as DeepSpeed reads it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .errors import MissingExtra, RecipeError

_ADAM = ("Adam", "AdamW")


def configuration(path: Path) -> dict[str, Any]:
    """What the file says, `auto` left for transformers to fill in.

    Raises `MissingExtra`, and `RecipeError` where the file is none or DeepSpeed refuses it.
    """
    if find_spec("deepspeed") is None:
        raise MissingExtra("deepspeed", "deepspeed", "`train.deepspeed`")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError([f"{path}: `train.deepspeed` is no JSON file: {error}"]) from error
    if not isinstance(values, dict):
        raise RecipeError([f"{path}: `train.deepspeed` has to hold an object"])
    _check(path, values)
    _compile_nothing(values)
    return values


def _check(path: Path, values: dict[str, Any]) -> None:
    """DeepSpeed's own reader has no word for `auto`; what it stands for comes from the recipe."""
    from deepspeed.runtime.config import DeepSpeedConfig

    said = {key: value for key, value in _without_auto(values).items() if "batch" not in key}
    said.pop("gradient_accumulation_steps", None)
    try:
        DeepSpeedConfig({**said, "train_micro_batch_size_per_gpu": 1})
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise RecipeError([f"{path}: DeepSpeed refuses it: {error}"]) from error


def _without_auto(values: dict[str, Any]) -> dict[str, Any]:
    nested = {
        key: _without_auto(value) if isinstance(value, dict) else value
        for key, value in values.items()
    }
    return {key: value for key, value in nested.items() if value != "auto"}


def _compile_nothing(values: dict[str, Any]) -> None:
    """Keep DeepSpeed from compiling C++ at its first step.

    Its Adam computes what torch's does, and is built by whatever compiler the machine has; a build
    that was cut leaves a lock behind, for which every later run waits without end. Its way of
    sharing memory between processes of one CPU is for inference alone.
    """
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    optimizer = values.get("optimizer", {})
    offloads = values.get("zero_optimization", {}).get("offload_optimizer") is not None
    if optimizer.get("type") in _ADAM and not offloads:
        optimizer["params"] = {"torch_adam": True, **(optimizer.get("params") or {})}
