"""How many optimizer steps a run takes."""

from __future__ import annotations

import math

from .train_settings import TrainSettings


def num_steps(settings: TrainSettings, num_rows: int, num_processes: int = 1) -> int:
    """Optimizer steps in the whole run; each of `num_processes` takes its own batch."""
    if settings.max_steps is not None:
        return settings.max_steps
    return math.ceil(steps_per_epoch(settings, num_rows, num_processes) * settings.epochs)


def steps_per_epoch(settings: TrainSettings, num_rows: int, num_processes: int = 1) -> int:
    """Optimizer steps for every row once; the last one may have fewer rows."""
    batches = -(-num_rows // (settings.batch_size * num_processes))
    return -(-batches // settings.gradient_accumulation)
