"""The least time that a device needs for a step: bytes over bandwidth, or operations over rate."""

from __future__ import annotations

from dataclasses import dataclass, replace

from server.bench.workload import Case
from server.engine.config import EngineSettings, ModelConfig
from server.engine.planner import weight_bytes


@dataclass(frozen=True)
class Device:
    """What a device can move and multiply, measured: bytes and bf16 operations per second.

    link: bytes per second from page-locked host memory.
    """

    name: str
    bandwidth: float
    rate: float
    link: float


H200 = Device("NVIDIA H200", bandwidth=4.28e12, rate=790e12, link=54.8e9)
"""A large copy, bytes read and written; an 8192³ product of random bf16 numbers; 84 MB at once."""


@dataclass(frozen=True)
class Floors:
    """Floors of one base in one weight mode; rank: the adapters' mean, on every projection."""

    config: ModelConfig
    settings: EngineSettings
    rank: float
    device: Device = H200

    def decode(self, case: Case, context: int) -> float:
        """Seconds of one step: max(weights, products) + KV + each distinct adapter once."""
        weights = self._streamed / self.device.bandwidth
        products = 2 * case.streams * self._multiplied / self.device.rate
        kv = case.streams * context * self.config.kv_bytes_per_token(self.settings.kv_dtype)
        adapters = min(case.adapters, case.streams) * self.adapter_bytes
        return max(weights, products) + (kv + adapters) / self.device.bandwidth

    def prefill(self, tokens: int) -> float:
        """Seconds of so many prompt tokens: the products alone."""
        return 2 * tokens * self.config.num_linear_weights / self.device.rate

    def swap(self) -> float:
        """Seconds that an adapter is on the link."""
        return self.adapter_bytes / self.device.link

    @property
    def adapter_bytes(self) -> float:
        config = self.config
        per_layer = sum(sum(config.projection_shape(name)) for name in _PROJECTIONS)
        return config.num_layers * per_layer * self.rank * self.settings.dtype.itemsize

    @property
    def _streamed(self) -> int:
        """Bytes of the base that every step reads: all but the embedding's other rows."""
        head = self.config.vocab_size * self.config.hidden_size * self.settings.dtype.itemsize
        everything = weight_bytes(self.config, replace(self.settings, weights="nf4"))
        return everything - (0 if self.config.tied_embeddings else head)

    @property
    def _multiplied(self) -> int:
        return self.config.num_linear_weights + self.config.vocab_size * self.config.hidden_size


_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
