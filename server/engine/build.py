"""Put an engine together for one base, one registry and one set of limits."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from registry.homes import base_cache
from server.bases.opening import Base
from server.engine.config import EngineSettings
from server.engine.device_build import build_device
from server.engine.device_errors import memory_for_start
from server.engine.device_linears import device_linears
from server.engine.engine import Engine, EngineParts
from server.engine.executor import DirectExecutor, Executor
from server.engine.kept_nf4 import KeptNf4
from server.engine.kernel_choice import can_run
from server.engine.kv_cache import BlockPool
from server.engine.layout import Layout
from server.engine.memory import available_memory, keep_freed_memory, physical_memory
from server.engine.planner import Plan, kv_only, plan
from server.engine.runner import MistralRunner
from server.engine.sampler import Sampler
from server.engine.slots import SlotPool
from server.engine.weights import ModelWeights, Progress, load_weights
from server.engine.worker import EngineWorker
from server.errors import StartupError
from server.residency import AdapterSource, Residency
from server.residency.blob_composing import BlobAdder
from server.residency.blobs import BlobPacker
from server.residency.composing import Add, ComposingSource, add_packed
from server.residency.pinned import PinnedMemory
from server.residency.residency import Slots

logger = logging.getLogger(__name__)

CPU_KV_MEMORY = 512 * 2**20


@memory_for_start()
def build_engine(
    base: Base, source: AdapterSource, settings: EngineSettings, progress: Progress | None = None
) -> Engine:
    """Load the base's weights and make an engine around them. StartupError if it cannot fit."""
    is_compiled = can_run(base.config, settings)
    settings = settings.for_model(base.config, is_compiled=is_compiled)
    memory = plan_memory(base, settings)
    max_context = context_limit(base, settings, memory)
    if settings.device == "cpu":
        keep_freed_memory()
    with ThreadPoolExecutor(2, thread_name_prefix="beside-weights") as beside:
        pinned = beside.submit(_pinned_memory, settings)  # takes 0.6 s a GiB
        make_linear = device_linears(settings, beside)
        kept = _kept_weights(base, settings)
        weights = load_weights(base.folder, base.config, settings, progress, make_linear, kept)
    sizes = {"num_blocks": memory.num_blocks, "max_context": max_context}
    executor: Executor
    slots: Slots
    add: Add = add_packed
    if settings.is_fused:
        executor, slots = build_device(base, weights, settings, **sizes)
        source = source.packed_by(BlobPacker(pinned.result()))
        add = BlobAdder(pinned.result(), base.config)
    elif is_compiled:
        from server.engine.compiled_build import build_compiled  # loads the compiler

        executor, slots = build_compiled(base, weights, settings, **sizes)
    else:
        slots = SlotPool(
            base.config,
            num_slots=settings.max_slots,
            max_rank=settings.max_rank,
            dtype=settings.dtype,
            device=torch.device(settings.device),
        )
        executor = _executor(base, weights, slots, settings, **sizes)
    composing = ComposingSource(source, add, max_rank=settings.max_rank)
    parts = EngineParts(
        executor=executor,
        blocks=BlockPool(memory.num_blocks, settings.block_size, settings.prefix_cache),
        adapters=Residency(composing, slots, host_memory=settings.host_memory),
        tokenizer=base.tokenizer,
        settings=settings,
        max_context=max_context,
    )
    logger.info(
        "base %s: %.0f MB of weights (%s), %d KV tokens",
        base.name,
        weights.nbytes / 1e6,
        settings.weights,
        memory.kv_tokens,
    )
    return Engine(parts)


def start_worker(engine: Engine) -> EngineWorker:
    """A running worker around an engine."""
    worker = EngineWorker(engine)
    worker.start()
    return worker


def _pinned_memory(settings: EngineSettings) -> PinnedMemory:
    """Where adapters lie before they go to a device; nothing for the CPU, whose slots copy them."""
    needs_it = settings.is_fused and settings.device != "cpu"
    return PinnedMemory(settings.host_memory if needs_it else 0, pin=needs_it)


def _kept_weights(base: Base, settings: EngineSettings) -> KeptNf4 | None:
    """Where what a CPU quantizes is kept; a device does it while the checkpoint is read."""
    if settings.device != "cpu" or settings.weights == "dense":
        return None
    return KeptNf4(base_cache() / ".nf4", base.record.fingerprint, settings.dtype)


def plan_memory(base: Base, settings: EngineSettings) -> Plan:
    """How much goes to the KV cache: what was asked, or what a device has left."""
    if settings.device == "cpu":
        memory, there_is = settings.kv_memory or CPU_KV_MEMORY, physical_memory()
        if memory > there_is:
            raise StartupError(
                f"{memory / 2**30:.1f} GiB of KV cache do not fit into this machine's "
                f"{there_is / 2**30:.1f} GiB; give less --kv-memory"
            )
        return kv_only(base.config, replace(settings, kv_memory=memory))
    free = available_memory(torch.device(settings.device))
    return plan(base.config, settings, int(free * settings.utilisation))


def context_limit(base: Base, settings: EngineSettings, memory: Plan) -> int:
    """Tokens that one sequence may have: the model's limit, the setting's, and the cache's."""
    limits = [base.max_context, memory.kv_tokens]
    if settings.max_context is not None:
        if settings.max_context > memory.kv_tokens:
            raise StartupError(
                f"--max-context {settings.max_context} is over the {memory.kv_tokens} tokens that "
                "the KV cache holds; give more --kv-memory"
            )
        limits.append(settings.max_context)
    return min(limits)


def _executor(
    base: Base,
    weights: ModelWeights,
    slots: SlotPool,
    settings: EngineSettings,
    *,
    num_blocks: int,
    max_context: int,
) -> Executor:
    """What runs steps in plain torch, where the host runs."""
    config, block_size = base.config, settings.block_size
    sampler = Sampler(base.tokenizer.eos_token_ids)
    sizes = {"num_blocks": num_blocks, "block_size": block_size, "max_context": max_context}
    layout = Layout(config, block_size, settings.dtype, torch.device(settings.device), slots)
    return DirectExecutor(MistralRunner(config, weights, **sizes), layout, sampler)
