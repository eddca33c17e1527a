"""How a device's memory is divided: by arithmetic over shapes, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from server.engine.arena import slot_elements
from server.engine.config import GROUPS, EngineSettings, ModelConfig
from server.errors import StartupError

GIB = 2**30
CONTEXT_BYTES = 600 * 2**20  # the driver's own, its libraries, and kernels
MIN_CONTEXT = 64  # tokens; a cache smaller than this cannot serve anything useful
NF4_BLOCK, ABSMAX_BLOCK = 64, 256  # weights under one scale; scales under one scale of scales
STORED_BYTES = 4  # an element of an adapter's file at most, on its way into a slot
SAMPLING_COPIES = 6  # fp32 arrays as large as the logits that drawing tokens needs at most


@dataclass(frozen=True)
class Plan:
    """Bytes by purpose, and the KV blocks that they leave room for.

    memory: what may be taken in all. slots: all adapters. workspace: activations of the largest
    step, and logits. graphs: what recorded steps hold. num_blocks includes the null block.
    """

    memory: int
    weights: int
    slots: int
    workspace: int
    graphs: int
    kv: int
    num_blocks: int
    block_size: int

    @property
    def kv_tokens(self) -> int:
        return (self.num_blocks - 1) * self.block_size


def plan(config: ModelConfig, settings: EngineSettings, memory: int) -> Plan:
    """Divide `memory` bytes of a device; StartupError says what does not fit.

    The KV cache gets what `settings.kv_memory` says, or all that the rest leaves.
    """
    weights = weight_bytes(config, settings)
    slots = settings.max_slots * slot_elements(config, settings.max_rank) * settings.dtype.itemsize
    workspace = CONTEXT_BYTES + _workspace(config, settings)
    workspace += STORED_BYTES * slot_elements(config, settings.max_rank)
    graphs = _activations(config, settings, settings.max_batch)
    left = max(0, memory - weights - slots - workspace - graphs)
    kv = left if settings.kv_memory is None else settings.kv_memory
    result = Plan(
        memory=memory,
        weights=weights,
        slots=slots,
        workspace=workspace,
        graphs=graphs,
        kv=kv,
        num_blocks=_num_blocks(config, settings, kv),
        block_size=settings.block_size,
    )
    _check(result, settings, left)
    return result


def kv_only(config: ModelConfig, settings: EngineSettings) -> Plan:
    """The KV cache that `settings.kv_memory` holds, where nothing else is counted: on CPU."""
    memory = settings.kv_memory or 0
    num_blocks = _num_blocks(config, settings, memory)
    result = Plan(memory, 0, 0, 0, 0, memory, num_blocks, settings.block_size)
    if result.kv_tokens < MIN_CONTEXT:
        raise StartupError(
            f"{memory / 2**20:.0f} MiB of KV memory hold fewer than {MIN_CONTEXT} tokens of this "
            f"base ({config.kv_bytes_per_token(settings.kv_dtype) / 1024:.0f} KiB each); "
            "give more with --kv-memory"
        )
    return result


def _num_blocks(config: ModelConfig, settings: EngineSettings, memory: int) -> int:
    return memory // (config.kv_bytes_per_token(settings.kv_dtype) * settings.block_size)


def weight_bytes(config: ModelConfig, settings: EngineSettings) -> int:
    """The resident base: projections as the settings keep them, the rest in the compute dtype."""
    linear = config.num_linear_weights
    vocabulary = config.vocab_size * config.hidden_size * (1 if config.tied_embeddings else 2)
    norms = config.hidden_size * (2 * config.num_layers + 1)
    dense = (vocabulary + norms) * settings.dtype.itemsize
    scales = linear // NF4_BLOCK
    packed = linear // 2 + scales + 4 * -(-scales // ABSMAX_BLOCK)
    copy = linear * settings.dtype.itemsize
    return dense + {"dense": copy, "nf4-shadow": packed + copy}.get(settings.weights, packed)


def _workspace(config: ModelConfig, settings: EngineSettings) -> int:
    largest = max(out * into for out, into in map(config.group_shape, GROUPS))
    scratch = largest * settings.dtype.itemsize  # one weight, dequantized for many rows
    logits = settings.max_batch * config.vocab_size
    sampling = logits * (settings.dtype.itemsize + 4 * SAMPLING_COPIES)
    return scratch + sampling + _activations(config, settings, settings.largest_chunk)


def _activations(config: ModelConfig, settings: EngineSettings, rows: int) -> int:
    """What one layer's intermediate results take for so many rows, a spare of each included."""
    widths = [sum(config.group_shape(group)) for group in GROUPS]
    return 2 * rows * sum(widths) * settings.dtype.itemsize


def _check(result: Plan, settings: EngineSettings, left: int) -> None:
    fixed = (
        f"weights {_gib(result.weights)}, {settings.max_slots} slots of rank {settings.max_rank} "
        f"{_gib(result.slots)}, workspace {_gib(result.workspace + result.graphs)}"
    )
    if result.kv > left:
        raise StartupError(
            f"{_gib(result.kv)} of KV cache do not fit into {_gib(result.memory)}: {fixed} leave "
            f"{_gib(left)}; give less --kv-memory, --max-slots or --max-rank"
        )
    if result.kv_tokens < MIN_CONTEXT:
        raise StartupError(
            f"nothing is left of {_gib(result.memory)} for a KV cache of {MIN_CONTEXT} tokens: "
            f"{fixed}; take fewer slots (--max-slots, in a plan --adapters), a lower rank or a "
            "larger device"
        )


def _gib(count: int) -> str:
    return f"{count / GIB:.2f} GiB"
