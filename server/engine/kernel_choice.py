"""Which kernels a base is run with."""

from __future__ import annotations

import torch

from server.engine.config import EngineSettings, ModelConfig
from server.kernels.cpu.support import HEAD_DIMS, is_supported


def can_run(config: ModelConfig, settings: EngineSettings) -> bool:
    """Whether the compiled kernels take this shape, on this machine, with these settings."""
    widths = (config.hidden_size, config.intermediate_size, config.num_heads * config.head_dim)
    return (
        settings.device == "cpu"
        and settings.dtype == torch.bfloat16
        and settings.block_size % 16 == 0
        and config.head_dim in HEAD_DIMS
        and all(width % 64 == 0 for width in widths)
        and is_supported()
    )
