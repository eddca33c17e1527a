"""Weights & Biases; with WANDB_MODE=offline the run is kept here until `wandb sync`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.recipe import WandbSettings

from .figures import FigureTracker

_MODEL = "model"  # the type of artifact that W&B's model registry takes


class WandbRun(FigureTracker):
    """One run named after the adapter. `watch` follows gradients; `log_model` keeps the checkpoints
    and, at the end, the adapter folder, as artifacts of the type `model`.
    """

    def __init__(self, settings: WandbSettings, name: str, folder: Path, every: int) -> None:
        super().__init__(every)
        self._settings = settings
        self._name = name
        self._folder = folder
        self._run: Any = None

    def begin(self, about: Mapping[str, Any], model: Any) -> None:
        import wandb

        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=self._settings.project or "hatstand",
            entity=self._settings.entity,
            name=self._name,
            dir=str(self._folder),
            config=dict(about),
        )
        if self._settings.watch:
            self._run.watch(model, log="gradients", log_freq=self._every)

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def end(self) -> None:
        self._run.finish()

    def keep(self, folder: Path) -> None:
        if self._settings.log_model and self._run is not None:
            self._run.log_artifact(str(folder), name=self._name, type=_MODEL)

    def on_save(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        if self._settings.log_model and state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self._run.log_artifact(str(folder), name=f"{self._name}-checkpoint", type=_MODEL)
