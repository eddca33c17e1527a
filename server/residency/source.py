"""Where adapters come from: by digest, out of the registry."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from registry.adapters import AdapterSpec
from registry.bases import BaseRecord
from registry.errors import RegistryError
from registry.references import Reference
from server.engine.config import ModelConfig
from server.engine.request import AdapterRef
from server.engine.slots import PackedAdapter
from server.errors import AdapterLoadError
from server.residency.packing import pack

if TYPE_CHECKING:
    from registry import Registry


class AdapterSource(Protocol):
    """Gets adapters into host memory."""

    def load(self, adapter: AdapterRef) -> PackedAdapter:
        """Read and pack one adapter, off the engine's thread. AdapterLoadError says why not."""
        ...


@dataclass(frozen=True)
class RegistrySource:
    """Adapters from a registry, for one base."""

    registry: Registry
    record: BaseRecord
    config: ModelConfig
    max_rank: int

    def load(self, adapter: AdapterRef) -> PackedAdapter:
        try:
            name = adapter.label.partition("@")[0]
            version = self.registry.resolve(Reference.parse(f"{name}@{adapter.digest}"))
            files = self.registry.files(version)
            adapter_config = json.loads(files["adapter_config.json"].read_text())
            spec = AdapterSpec.from_config(adapter_config, self.record.config)
            self._check(adapter, version.base_fingerprint, spec)
            return pack(adapter, files["adapter_model.safetensors"], spec, self.config)
        except (RegistryError, OSError, ValueError, KeyError) as error:
            raise AdapterLoadError(f"adapter {adapter.label} cannot be loaded: {error}") from error

    def _check(self, adapter: AdapterRef, fingerprint: str, spec: AdapterSpec) -> None:
        if fingerprint != self.record.fingerprint:
            raise AdapterLoadError(
                f"adapter {adapter.label} was trained on a base with fingerprint {fingerprint}; "
                f"this server runs {self.record.name} ({self.record.fingerprint})"
            )
        if spec.max_rank > self.max_rank:
            raise AdapterLoadError(
                f"adapter {adapter.label} has rank {spec.max_rank}; this server's slots take up to "
                f"{self.max_rank} (start it with --max-rank {spec.max_rank})"
            )
