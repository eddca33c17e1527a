"""TensorBoard's files, written by tensorboardX: `tensorboard --logdir` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .figures import FigureTracker


class TensorBoardLog(FigureTracker):
    """One scalar a figure; what Trainer was told as text."""

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(every)
        self._folder = folder
        self._writer: Any = None

    def begin(self, about: Mapping[str, Any], model: Any) -> None:
        from tensorboardX import SummaryWriter

        del model
        self._writer = SummaryWriter(str(self._folder))
        lines = [f"    {name}: {value}" for name, value in about.items()]
        self._writer.add_text("arguments", "\n".join(lines))

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def end(self) -> None:
        self._writer.close()
