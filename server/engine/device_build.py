"""Put together what runs steps on a device."""

from __future__ import annotations

import logging
import os
import time

import torch

from registry.homes import kernel_cache
from server.bases.opening import Base
from server.engine.arena import Arena
from server.engine.config import EngineSettings
from server.engine.device_executor import DeviceExecutor
from server.engine.device_model import DeviceModel
from server.engine.graphs import GraphRecorder, NoRecorder, Recorder
from server.engine.sampler import Sampler
from server.engine.step_kernels import StepKernels
from server.engine.weights import ModelWeights
from server.kernels.rope import RopeTable

logger = logging.getLogger(__name__)


def build_device(
    base: Base,
    weights: ModelWeights,
    settings: EngineSettings,
    *,
    num_blocks: int,
    max_context: int,
) -> tuple[DeviceExecutor, Arena]:
    """What runs steps on the settings' device, and its slots."""
    config, device = base.config, weights.embedding.device
    if device.type == "cuda":
        _keep_compiled()
    invariant = settings.gemm == "batch-invariant"
    kernels = StepKernels.of(device, invariant=invariant)
    slots = Arena(
        config,
        num_slots=settings.max_slots,
        max_rank=settings.max_rank,
        dtype=settings.dtype,
        device=device,
        unpack=kernels.unpack,
    )
    shape = (config.num_layers, 2, num_blocks, settings.block_size)
    model = DeviceModel(
        config=config,
        weights=weights,
        kernels=kernels,
        sites=slots.sites(),
        rope=RopeTable.build(
            head_dim=config.head_dim,
            num_positions=max_context,
            theta=config.rope_theta,
            like=weights.embedding,
        ),
        cache=torch.zeros(
            (*shape, config.num_kv_heads, config.head_dim), dtype=settings.kv_dtype, device=device
        ),
        invariant=invariant,
    )
    started = time.perf_counter()
    executor = DeviceExecutor(
        model,
        Sampler(base.tokenizer.eos_token_ids),
        recorder_for(device),
        max_batch=settings.max_batch,
        max_context=max_context,
        chunk=settings.chunk,
        ranks=slots.ranks,
    )
    logger.info("steps recorded in %.1f s", time.perf_counter() - started)
    return executor, slots


def recorder_for(device: torch.device) -> Recorder:
    return GraphRecorder() if device.type == "cuda" else NoRecorder()


def _keep_compiled() -> None:
    """Let Triton's kernels outlast the process, beside the others, unless told where to."""
    from triton import knobs

    if "TRITON_CACHE_DIR" not in os.environ:
        knobs.cache.dir = str(kernel_cache() / "triton")
