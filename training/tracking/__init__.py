"""Where a run's figures go while it runs: files, TensorBoard, Weights & Biases, anything else."""

from .choice import following, keep, trackers

__all__ = ["following", "keep", "trackers"]
