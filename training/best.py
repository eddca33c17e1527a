"""The weights from before the validation loss turned, and when to stop looking for better ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from .processes import whole

STATE_FILE = "best.json"  # the last that is written of a checkpoint: without it, it is not whole
_WEIGHTS_FILE = "best.safetensors"


class BestWeights(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Keeps the trained weights of the lowest validation loss in host memory.

    With `patience`, training stops after so many validations in a row without a lower loss. Its
    state goes into each checkpoint, so that a resumed run judges as the whole run would have.
    """

    def __init__(self, *, keep: bool, patience: int | None) -> None:
        self.step: int | None = None
        self._keep = keep
        self._patience = patience
        self._loss = float("inf")
        self._stale = 0
        self._weights: dict[str, torch.Tensor] = {}

    def on_evaluate(
        self, _args: Any, state: Any, control: Any, metrics: dict[str, float], model: Any, **_: Any
    ) -> None:
        """Trainer calls this after every validation pass."""
        loss = metrics["eval_loss"]
        if loss < self._loss:
            self._loss, self._stale, self.step = loss, 0, int(state.global_step)
            if self._keep:
                with whole(model):
                    self._weights = {name: p.detach().cpu().clone() for name, p in _trained(model)}
            return
        self._stale += 1
        if self._patience is not None and self._stale >= self._patience:
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Trainer calls this, in every process, after the first one has written a checkpoint."""
        from safetensors.torch import save_file

        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self._weights:
            save_file(self._weights, folder / _WEIGHTS_FILE)
        about = {"step": self.step, "loss": self._loss, "stale": self._stale}
        partial = folder / f"{STATE_FILE}.partial"
        partial.write_text(json.dumps(about), encoding="utf-8")
        partial.replace(folder / STATE_FILE)

    def load(self, checkpoint: Path) -> None:
        """Go on from what a checkpoint says."""
        from safetensors.torch import load_file

        about = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
        self.step, self._loss, self._stale = about["step"], about["loss"], about["stale"]
        if (checkpoint / _WEIGHTS_FILE).is_file():
            self._weights = load_file(checkpoint / _WEIGHTS_FILE)

    @torch.no_grad()
    def restore(self, model: torch.nn.Module) -> None:
        """Put the best weights into the model; without `keep` it stays as it is."""
        with whole(model, writes=True):
            for name, parameter in _trained(model):
                if name in self._weights:
                    parameter.copy_(self._weights[name])


def _trained(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]
