"""The recipe's section `train`: how long, how fast and with what to train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from .sections import Count, NotNegative, Positive, Section, Seed, Share

Scheduler = Literal[
    "linear", "cosine", "constant", "constant_with_warmup", "polynomial", "warmup_decay"
]
Optimizer = Literal[
    "adamw", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "sgd", "adafactor"
]
Precision = Literal["auto", "bf16", "fp16", "fp32"]
Every = Count | Literal["epoch", "never"]


class TrainSettings(Section):
    """How long, how fast and with what to train."""

    epochs: Positive = 1.0
    max_steps: Count | None = None
    """Optimizer steps; wins over `epochs`."""
    batch_size: Count = 8
    """Rows per forward pass and device."""
    eval_batch_size: Count | None = None
    """Rows per forward pass of a validation; left out: 16, or `batch_size` where that is more."""
    gradient_accumulation: Count = 1
    """Forward passes per optimizer step."""
    learning_rate: Positive = 2e-4
    scheduler: Scheduler = "cosine"
    """`warmup_decay` is DeepSpeed's WarmupDecayLR: logarithmic up, linear down to zero."""
    warmup: NotNegative = 0.05
    """Below 1 a share of all steps, else steps."""
    optimizer: Optimizer = "adamw"
    """Paged ones move their state to host memory when the GPU runs full."""
    adam_beta1: Share = 0.9
    adam_beta2: Share = 0.999
    adam_epsilon: Positive = 1e-8
    weight_decay: NotNegative = 0.0
    max_grad_norm: NotNegative = 1.0
    """Longer gradients are shortened to this; 0 switches clipping off."""
    precision: Precision = "auto"
    """Of the forward pass: bf16, fp16 with a loss scaler (GPU only), fp32. Trained weights stay
    fp32 in each. `auto` is bf16 where the hardware multiplies it, else fp32."""
    max_length: Annotated[int, Field(ge=8)] = 1024
    """Tokens of prompt and answer together."""
    packing: bool = False
    """Several rows behind one another in one of `max_length` tokens, none seeing another."""
    unpadded: bool | Literal["auto"] = "auto"
    """The rows of a step behind one another, none seeing another, in as few forward passes as
    `batch_size` rows of `max_length` allow: the same step with nothing padded. `auto`: on GPUs."""
    fused: bool | Literal["auto"] = "auto"
    """Layers by our own kernels, which compute the same with fewer passes over memory and keep
    less of it. `auto`: on GPUs."""
    group_by_length: bool = True
    """Batches of similar lengths waste less on padding."""
    gradient_checkpointing: bool = False
    """Saves memory, costs about a third more time."""
    eval_every: Every | None = None
    """Steps between validation passes, `epoch` or `never`; left out: four passes in all."""
    save_every: Every = "never"
    """Steps between checkpoints in `OUTPUT-checkpoints`, or `epoch`; `--resume` goes on there."""
    keep_checkpoints: Count = 3
    """How many of them stay."""
    best: bool = False
    """Save the weights of the lowest validation loss, not those of the last step."""
    early_stop: Count | None = None
    """Stop after so many validation passes without a lower loss."""
    deepspeed: Path | None = None
    """A DeepSpeed configuration (JSON)."""
    seed: Seed = 0
