"""How long a run may take: its arithmetic over what this device multiplies."""

from __future__ import annotations

import time

import torch

from training.recipe import Recipe

from .counting import Counts

UTILIZATION = 0.4  # of the device's plain matrix products that a training step reaches, roughly
_SIZE = {"cuda": 8192, "cpu": 1024}
_SECONDS = 0.3  # how long the products are measured


def operations(recipe: Recipe, counts: Counts, num_tokens: int) -> float:
    """Floating-point operations to train on `num_tokens`.

    2 a weight and token forward, 2 for gradients of activations, 2 more for those of weights that
    are trained; a checkpointed forward pass is computed twice (Kaplan et al., arXiv 2001.08361).
    """
    frozen = 0 if recipe.method == "full" else counts.linear
    passes = 6 if recipe.train.gradient_checkpointing else 4
    return float(num_tokens) * (passes * frozen + (passes + 2) * counts.trained)


def measure_device(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second that products of large matrices reach here, right now."""
    size = _SIZE.get(device.type, 1024)
    left = torch.randn(size, size, device=device, dtype=dtype)
    left @ left  # the first one sets things up
    _wait(device)
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < _SECONDS:
        left @ left
        _wait(device)
        count += 1
    return 2 * size**3 * count / elapsed


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
