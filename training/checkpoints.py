"""Checkpoints of a run: the trained weights as they are, so that a resumed run goes on bit for bit.

PEFT and transformers would each write a model of their own kind; here a checkpoint holds every
parameter with a gradient, and the frozen factors beside them, by name, in its own dtype.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import torch

from .errors import OutputError

WEIGHTS_FILE = "trained.safetensors"
_NAME = re.compile(r"checkpoint-(\d+)")


def folder_for(output: Path) -> Path:
    """Where the checkpoints of a run lie: beside its output."""
    return output.parent / f"{output.name}-checkpoints"


def newest(folder: Path) -> Path | None:
    """The checkpoint with the most steps that was written whole; None where there is none."""
    found = [
        (int(name[1]), path)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (name := _NAME.fullmatch(path.name)) and (path / "trainer_state.json").is_file()
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


def save_trained(model: torch.nn.Module, path: Path) -> None:
    """Write what a resumed run needs of the weights."""
    from safetensors.torch import save_file

    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in _kept(model).items()}, path
    )


@torch.no_grad()
def load_trained(model: torch.nn.Module, path: Path) -> None:
    """Put the weights back. Raises `OutputError` when they are of another run."""
    from safetensors.torch import load_file

    kept, saved = _kept(model), load_file(path)
    same = kept.keys() == saved.keys() and all(kept[n].shape == saved[n].shape for n in kept)
    if not same:
        raise OutputError(
            f"{path.parent} is of a run with other settings: start anew, without --resume"
        )
    for name, tensor in kept.items():
        tensor.copy_(saved[name])


def _kept(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or ".lora_" in name
    }
