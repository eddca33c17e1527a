"""Where adapters come from: by digest, out of the registry."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from registry.adapters import AdapterSpec
from registry.bases import BaseRecord
from registry.errors import RegistryError
from registry.references import Reference
from server.engine.config import ModelConfig
from server.engine.request import AdapterRef
from server.errors import AdapterLoadError, RankTooHigh
from server.residency.host import HostAdapter
from server.residency.packing import pack

if TYPE_CHECKING:
    from registry.opening import AnyRegistry


Pack = Callable[[AdapterRef, Path, AdapterSpec, ModelConfig], HostAdapter]
"""Reads an adapter's weights file into host memory, laid out as the slots hold it."""


class HostSource(Protocol):
    """Gets adapters into host memory."""

    def load(self, adapter: AdapterRef) -> HostAdapter:
        """Read and pack one adapter, off the engine's thread. AdapterLoadError says why not."""
        ...


class AdapterSource(HostSource, Protocol):
    """Gets adapters into host memory, laid out for any slots."""

    def packed_by(self, pack: Pack) -> AdapterSource:
        """The same adapters, laid out for other slots."""
        ...


@dataclass(frozen=True)
class RegistrySource:
    """Adapters from a registry, for one base."""

    registry: AnyRegistry
    record: BaseRecord
    config: ModelConfig
    max_rank: int
    pack: Pack = pack

    def packed_by(self, pack: Pack) -> RegistrySource:
        return replace(self, pack=pack)

    def load(self, adapter: AdapterRef) -> HostAdapter:
        try:
            name = adapter.label.partition("@")[0]
            version = self.registry.resolve(Reference.parse(f"{name}@{adapter.digest}"))
            files = self.registry.files(version)
            adapter_config = json.loads(files["adapter_config.json"].read_text())
            spec = AdapterSpec.from_config(adapter_config, self.record.config)
            self._check(adapter, version.base_fingerprint, spec)
            return self.pack(adapter, files["adapter_model.safetensors"], spec, self.config)
        except (RegistryError, OSError, ValueError, KeyError) as error:
            raise AdapterLoadError(f"adapter {adapter.label} cannot be loaded: {error}") from error

    def _check(self, adapter: AdapterRef, fingerprint: str, spec: AdapterSpec) -> None:
        if fingerprint != self.record.fingerprint:
            raise AdapterLoadError(
                f"adapter {adapter.label} was trained on a base with fingerprint {fingerprint}; "
                f"this server runs {self.record.name} ({self.record.fingerprint})"
            )
        if spec.max_rank > self.max_rank:
            raise RankTooHigh(
                f"adapter {adapter.label} has rank {spec.max_rank}; this server's slots take up to "
                f"{self.max_rank} (start it with --max-rank {spec.max_rank})",
                param="model",
            )
