"""Bytes a parameter takes, as the seeds count them and as they are.

Seed 002's arithmetic for fine-tuning: full takes 2 bytes of weight, 2 of gradient and 12 of
optimizer state (momentum, variance and a copy in 32 bits); LoRA 4 for weights and gradients of the
base, and 16 for each of a hundredth as many trained parameters; QLoRA 1 in place of the 4. It gives
frozen weights a gradient, which they do not have: `memory` has what a run really holds.
"""

from __future__ import annotations

from training.recipe import LoadSettings

_TRAINED = 16.0  # bytes: weight 2, gradient 2, optimizer 12
_TRAINED_SHARE = 0.01  # of all parameters, with an adapter
SEEDS_BYTES = {
    "full": _TRAINED,
    "LoRA": 4 + _TRAINED * _TRAINED_SHARE,
    "QLoRA": 1 + _TRAINED * _TRAINED_SHARE,
}
BLOCK = 64  # weights that share a constant
SUPERBLOCK = 256  # constants that share one, when they are quantized themselves
_GPTQ_GROUP = 128


def constants_bits(*, double: bool) -> float:
    """Bits a weight that NF4's constants add: 0.5, quantized themselves 0.127 (QLoRA, §3)."""
    return 8 / BLOCK + 32 / (BLOCK * SUPERBLOCK) if double else 32 / BLOCK


def linear_bytes(load: LoadSettings) -> float:
    """Bytes for each weight of the blocks' linear layers, scales counted."""
    if load.quantization == "nf4":
        return (4 + constants_bits(double=load.double_quantization)) / 8
    if load.quantization == "gptq":  # a 16-bit scale and a 4-bit zero a group
        return (4 + 20 / _GPTQ_GROUP) / 8
    return {"int8": 1.0, "none": 2.0}[load.quantization]


def seeds_gigabytes(num_parameters: int) -> dict[str, float]:
    """Seed 002's three figures for a base of that size, in GB (10⁹ bytes)."""
    return {how: num_parameters * each / 1e9 for how, each in SEEDS_BYTES.items()}
