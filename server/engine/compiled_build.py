"""Put together what runs steps with the compiled kernels."""

from __future__ import annotations

import torch

from server.bases.opening import Base
from server.engine.compiled_runner import CompiledRunner
from server.engine.compiled_slots import CompiledSlots
from server.engine.config import EngineSettings
from server.engine.executor import DirectExecutor
from server.engine.row_layout import RowLayout, RowStep
from server.engine.sampler import Sampler
from server.engine.weights import ModelWeights
from server.kernels.cpu.sampling import largest


def build_compiled(
    base: Base,
    weights: ModelWeights,
    settings: EngineSettings,
    *,
    num_blocks: int,
    max_context: int,
) -> tuple[DirectExecutor[RowStep], CompiledSlots]:
    """What runs steps on the threads that torch would take, and its slots."""
    slots = CompiledSlots(base.config, num_slots=settings.max_slots, max_rank=settings.max_rank)
    runner = CompiledRunner(
        base.config,
        weights,
        slots,
        num_blocks=num_blocks,
        block_size=settings.block_size,
        max_context=max_context,
        num_threads=torch.get_num_threads(),
    )
    sampler = Sampler(base.tokenizer.eos_token_ids, largest)
    return DirectExecutor(runner, RowLayout(settings.block_size), sampler), slots
