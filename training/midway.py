"""Adapters of a run that is not over: every checkpoint as a folder that can be pushed."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from .export import write_adapter
from .methods import Adapter, Method

Publish = Callable[[Path, int], None]
"""Told of the folder, which is gone afterwards, and of the step that it is of."""
Describe = Callable[[Path, Adapter, dict[str, float]], None]
"""Writes what stands beside the weights: hat, recipe and lock, with the figures given."""


class MidwayAdapters(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Makes an adapter folder of each checkpoint but the last, whose adapter the run itself makes.

    It has no receipt: that would take the base that serves, in the middle of training.
    """

    def __init__(self, method: Method, describe: Describe, publish: Publish) -> None:
        self._method = method
        self._describe = describe
        self._publish = publish
        self._loss: float | None = None

    def on_log(
        self,
        _args: Any,
        _state: Any,
        _control: Any,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        self._loss = (logs or {}).get("loss", self._loss)

    def on_save(self, _args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        """Trainer calls this after it has written a checkpoint."""
        step = int(state.global_step)
        is_over = step >= state.max_steps or control.should_training_stop
        if is_over or not state.is_world_process_zero:
            return
        adapter = self._method.finish(model).kept()
        # Writing marks the configuration as one for inference; training goes on with its own.
        adapter = replace(adapter, config=copy.deepcopy(adapter.config))
        figures = {"steps": float(step)}
        if self._loss is not None:
            figures["train_loss"] = self._loss
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "adapter"
            folder.mkdir()
            write_adapter(adapter, folder)
            self._describe(folder, adapter, figures)
            self._publish(folder, step)
