"""Where a run's figures go while it runs: files, TensorBoard, Weights & Biases, anything else."""

from .choice import trackers

__all__ = ["trackers"]
