"""Put an engine together for one base, one registry and one set of limits."""

from __future__ import annotations

import logging

import torch

from server.bases.opening import Base
from server.engine.config import EngineSettings
from server.engine.engine import Engine, EngineParts
from server.engine.executor import DirectExecutor
from server.engine.kv_cache import BlockPool
from server.engine.layout import Layout
from server.engine.memory import keep_freed_memory
from server.engine.runner import MistralRunner
from server.engine.sampler import Sampler
from server.engine.slots import SlotPool
from server.engine.weights import Progress, load_weights
from server.engine.worker import EngineWorker
from server.errors import StartupError
from server.residency import AdapterSource, Residency

logger = logging.getLogger(__name__)

MIN_CONTEXT = 64  # tokens; a cache smaller than this cannot serve anything useful


def build_engine(
    base: Base, source: AdapterSource, settings: EngineSettings, progress: Progress | None = None
) -> Engine:
    """Load the base's weights and make an engine around them. StartupError if it cannot fit."""
    config = base.config
    settings = settings.for_model(config)
    num_blocks = count_blocks(base, settings)
    max_context = context_limit(base, settings, num_blocks)
    device = torch.device(settings.device)
    if device.type == "cpu":
        keep_freed_memory()
    weights = load_weights(base.folder, config, settings, progress)
    slots = SlotPool(
        config,
        num_slots=settings.max_slots,
        max_rank=settings.max_rank,
        dtype=settings.dtype,
        device=device,
    )
    runner = MistralRunner(
        config,
        weights,
        num_blocks=num_blocks,
        block_size=settings.block_size,
        max_context=max_context,
    )
    parts = EngineParts(
        executor=DirectExecutor(
            runner,
            Layout(config, settings.block_size, settings.dtype, device, slots),
            Sampler(base.tokenizer.eos_token_ids),
        ),
        blocks=BlockPool(num_blocks, settings.block_size, settings.prefix_cache),
        adapters=Residency(source, slots, host_memory=settings.host_memory),
        tokenizer=base.tokenizer,
        settings=settings,
        max_context=max_context,
    )
    logger.info(
        "base %s: %.0f MB of weights (%s), %d KV tokens",
        base.name,
        weights.nbytes / 1e6,
        settings.weights,
        (num_blocks - 1) * settings.block_size,
    )
    return Engine(parts)


def start_worker(engine: Engine) -> EngineWorker:
    """A running worker around an engine."""
    worker = EngineWorker(engine)
    worker.start()
    return worker


def count_blocks(base: Base, settings: EngineSettings) -> int:
    """KV blocks that the memory given for them holds, the null block included."""
    per_block = base.config.kv_bytes_per_token(settings.dtype) * settings.block_size
    blocks = settings.kv_memory // per_block
    if (blocks - 1) * settings.block_size < MIN_CONTEXT:
        raise StartupError(
            f"{settings.kv_memory / 2**20:.0f} MiB of KV memory hold fewer than {MIN_CONTEXT} "
            f"tokens of {base.name} ({per_block / settings.block_size / 1024:.0f} KiB each); "
            "give more with --kv-memory"
        )
    return int(blocks)


def context_limit(base: Base, settings: EngineSettings, num_blocks: int) -> int:
    """Tokens that one sequence may have: the model's limit, the setting's, and the cache's."""
    limits = [base.max_context, (num_blocks - 1) * settings.block_size]
    if settings.max_context is not None:
        limits.append(settings.max_context)
    return min(limits)
