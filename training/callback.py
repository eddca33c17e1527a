"""Where Trainer's logs go: into the curves, onto the bar, and to a stop when the loss breaks."""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainerCallback

from .errors import TrainingDiverged
from .progress import Curves, TrainingBar


class CurveCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Keeps every loss that Trainer logs, and stops a run whose loss is no number."""

    def __init__(self, bar: TrainingBar) -> None:
        self.curves = Curves()
        self._bar = bar

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """A resumed run has curves already."""
        for logs in state.log_history:
            self._keep(int(logs["step"]), logs)

    def on_log(
        self,
        _args: Any,
        state: Any,
        _control: Any,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Trainer calls this after every step and every validation pass."""
        step, logs = int(state.global_step), logs or {}
        loss = logs.get("loss", logs.get("eval_loss", 0.0))
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"The loss is {loss} at step {step}: lower `train.learning_rate`, or set "
                "`train.max_grad_norm` to 1 or less."
            )
        self._keep(step, logs)
        if "loss" in logs:
            pace = logs.get("train_tokens_per_second", 0.0)
            self._bar.update(step, loss, logs["learning_rate"], pace)
        elif "eval_loss" in logs:
            self._bar.validated(loss)

    def _keep(self, step: int, logs: dict[str, float]) -> None:
        if "loss" in logs:
            self.curves.train.append((step, logs["loss"]))
            self.curves.learning_rate.append((step, logs["learning_rate"]))
        elif "eval_loss" in logs:
            self.curves.validation.append((step, logs["eval_loss"]))
