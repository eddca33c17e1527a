"""Checkpoints of a run: the trained weights as they are, so that a resumed run goes on bit for bit.

PEFT and transformers would each write a model of their own kind; here a checkpoint holds every
parameter with a gradient, and the frozen factors beside them, by name, in its own dtype.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from registry.canonical import canonical_json, digest_of

from .best import STATE_FILE
from .errors import OutputError
from .provenance import portable_recipe
from .recipe import Recipe

WEIGHTS_FILE = "trained.safetensors"
_WATCHING = ("description", "evaluate", "forgetting", "tracking", "translated")
_LENGTH = (
    "epochs",
    "max_steps",
    "eval_every",
    "eval_batch_size",
    "save_every",
    "keep_checkpoints",
    "early_stop",
)
_NAME = re.compile(r"checkpoint-(\d+)")


def folder_for(output: Path) -> Path:
    """Where the checkpoints of a run lie: beside its output."""
    return output.parent / f"{output.name}-checkpoints"


def newest(folder: Path) -> Path | None:
    """The checkpoint with the most steps that was written whole; None where there is none."""
    found = [
        (int(name[1]), path)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (name := _NAME.fullmatch(path.name)) and (path / STATE_FILE).is_file()
    ]
    return max(found)[1] if found else None


def clear(folder: Path) -> None:
    """Make way for a new run's. Raises `OutputError` where something else lies there."""
    if not folder.exists():
        return
    strangers = [path.name for path in folder.iterdir() if not _NAME.fullmatch(path.name)]
    if strangers:
        raise OutputError(f"{folder} holds {strangers[0]}, which is no checkpoint; move it away")
    shutil.rmtree(folder)


def identity_of(recipe: Recipe, data: Mapping[str, str]) -> str:
    """What must be equal for a run to go on from another's checkpoint: recipe and data, but for how
    long it trains, and how it is watched.
    """
    values = portable_recipe(recipe)
    for section in _WATCHING:
        del values[section]
    for key in _LENGTH:
        del values["train"][key]
    return digest_of(canonical_json({"recipe": values, "data": dict(data)}))


def save_trained(
    model: torch.nn.Module,
    path: Path,
    *,
    identity: str,
    whole: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write what a resumed run needs of the weights; `whole` has them where `model` has parts."""
    from safetensors.torch import save_file

    found: Mapping[str, torch.Tensor] = _kept(model)
    if whole:  # empty where DeepSpeed was told not to put them together
        found = {name: whole[name] for name in found}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}
    save_file(tensors, path, metadata={"run": identity})


@torch.no_grad()
def load_trained(model: torch.nn.Module, path: Path, *, identity: str) -> None:
    """Put the weights back. Raises `OutputError` when they are of another run."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as saved:
        if (saved.metadata() or {}).get("run") != identity:
            raise OutputError(
                f"{path.parent} is of a run with other settings or data: start anew, without "
                "--resume"
            )
        for name, tensor in _kept(model).items():
            tensor.copy_(saved.get_tensor(name))


def _kept(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or ".lora_" in name
    }
