"""One of several processes that train together, as torchrun and `accelerate launch` start them.

Each takes its own batches; gradients are averaged (DDP), or gradients, optimizer state and weights
are divided among them (DeepSpeed ZeRO). Only the first one asks, writes and pushes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any


class Followed(Exception):
    """This process is not the first one, and has done its part: training."""


def rank() -> int:
    """This process's number among all, from 0."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """How many train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this one writes for all."""
    return rank() == 0


def take_device() -> None:
    """Use the GPU that this process was given. Call before anything lies on one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def backend() -> str | None:
    """How processes without GPUs talk to each other; None leaves it to the library."""
    import torch

    return "gloo" if count() > 1 and not torch.cuda.is_available() else None


@contextlib.contextmanager
def whole(model: Any, *, writes: bool = False) -> Iterator[None]:
    """With trained weights in one piece, where ZeRO-3 has divided them; all processes call it.

    With `writes`, what the first process makes of them is what all have afterwards.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not any(hasattr(parameter, "ds_id") for parameter in trained):  # DeepSpeed's mark
        yield
        return
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters(trained, modifier_rank=0 if writes else None):
        yield


def leave_deepspeed() -> None:
    """Models that are loaded from here on are this process's own, not divided among all."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()
