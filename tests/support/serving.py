"""Engines over tiny bases, driven by hand."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from registry.adapters import AdapterSpec
from server.bases import Base, open_base
from server.engine.build import build_engine
from server.engine.config import EngineSettings, ModelConfig
from server.engine.constraint import Constraint
from server.engine.engine import Engine
from server.engine.request import (
    AdapterRef,
    GenerationDelta,
    GenerationRequest,
    Pooling,
    SamplingParams,
)
from server.errors import AdapterLoadError, ServingError
from server.residency.host import HostAdapter
from server.residency.packing import pack
from server.residency.source import Pack

_ids = itertools.count()


@dataclass(frozen=True)
class FolderSource:
    """Adapters straight from PEFT folders; the digest is the name."""

    folders: Mapping[str, Path]
    base: Base
    pack: Pack = pack

    def packed_by(self, pack: Pack) -> FolderSource:
        return replace(self, pack=pack)

    def load(self, adapter: AdapterRef) -> HostAdapter:
        folder = self.folders.get(adapter.digest)
        if folder is None:
            raise AdapterLoadError(f"no adapter {adapter.digest}")
        config = json.loads((folder / "adapter_config.json").read_text())
        spec = AdapterSpec.from_config(config, self.base.record.config)
        return self.pack(adapter, folder / "adapter_model.safetensors", spec, self.config)

    @property
    def config(self) -> ModelConfig:
        return self.base.config


def make_engine(base: Path, adapters: Mapping[str, Path] | None = None, **settings: Any) -> Engine:
    """An engine over a base folder with adapters by name, on CPU in fp32 unless told otherwise."""
    opened = open_base(str(base))
    chosen = {"dtype": torch.float32, "kv_memory": 1 << 20, "max_rank": 16, **settings}
    return build_engine(opened, FolderSource(adapters or {}, opened), EngineSettings(**chosen))


@dataclass(repr=False)
class Driver:
    """Steps an engine until its requests are done, and keeps what each brought."""

    engine: Engine
    deltas: dict[str, list[GenerationDelta]] = field(default_factory=dict)
    errors: dict[str, ServingError] = field(default_factory=dict)

    def submit(
        self,
        prompt: Sequence[int],
        adapter: str | AdapterRef | None = None,
        *,
        constraint: Constraint | None = None,
        pooling: Pooling | None = None,
        **params: Any,
    ) -> str:
        request_id = f"request-{next(_ids)}"
        chosen = {"temperature": 0.0, "ignore_eos": True, **params}
        ref = AdapterRef(adapter, adapter) if isinstance(adapter, str) else adapter
        self.deltas[request_id] = []
        sampling = SamplingParams(**chosen)
        request = GenerationRequest(
            request_id, tuple(prompt), sampling, ref, constraint=constraint, pooling=pooling
        )
        self.engine.add(request)
        return request_id

    def embed(
        self,
        prompt: Sequence[int],
        adapter: str | AdapterRef | None = None,
        pooling: Pooling = "mean",
    ) -> str:
        return self.submit(prompt, adapter, pooling=pooling, max_tokens=0)

    def embedding(self, request_id: str) -> torch.Tensor:
        (delta,) = self.deltas[request_id]
        return torch.tensor(delta.embedding)

    def step(self) -> bool:
        return self.engine.step(self._take)

    def run(self, *, most: int = 100_000) -> None:
        """Until nothing is left to do."""
        for _ in range(most):
            if not self.engine.has_work:
                return
            if not self.step():
                time.sleep(0.001)  # an adapter is on its way
        raise AssertionError(f"still busy after {most} steps")

    def tokens(self, request_id: str) -> list[int]:
        return [token for delta in self.deltas[request_id] for token in delta.token_ids]

    def text(self, request_id: str) -> str:
        return "".join(delta.text for delta in self.deltas[request_id])

    def _take(self, request_id: str, outcome: GenerationDelta | ServingError) -> None:
        if isinstance(outcome, ServingError):
            self.errors[request_id] = outcome
        else:
            self.deltas[request_id].append(outcome)
