"""Our side: the engine, driven as its worker drives it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from registry.adapters import AdapterSpec
from server.bases import Base
from server.bench.workload import LONG, RANK, SHORT, Case, Measured, decoding_speed
from server.engine.build import build_engine
from server.engine.config import EngineSettings, ModelConfig, WeightMode
from server.engine.engine import Engine
from server.engine.request import AdapterRef, GenerationDelta, GenerationRequest, SamplingParams
from server.errors import ServingError
from server.residency.host import HostAdapter
from server.residency.packing import pack
from server.residency.source import Pack


@dataclass(frozen=True)
class FolderSource:
    """Adapters straight from PEFT folders, by name."""

    folders: Mapping[str, Path]
    base: Base
    pack: Pack = pack

    def packed_by(self, pack: Pack) -> FolderSource:
        return replace(self, pack=pack)

    def load(self, adapter: AdapterRef) -> HostAdapter:
        folder = self.folders[adapter.digest]
        config = json.loads((folder / "adapter_config.json").read_text())
        spec = AdapterSpec.from_config(config, self.base.record.config)
        return self.pack(adapter, folder / "adapter_model.safetensors", spec, self.config)

    @property
    def config(self) -> ModelConfig:
        return self.base.config


class EngineSide:
    """Hatstand in one weight mode."""

    def __init__(
        self, base: Base, folders: Mapping[str, Path], *, device: str, weights: WeightMode
    ) -> None:
        settings = EngineSettings(device=device, weights=weights, max_rank=RANK)
        self._engine: Engine = build_engine(base, FolderSource(folders, base), settings)
        self.label = f"hatstand {weights}"
        self.weight_bytes = self._engine.weight_bytes
        self._firsts: dict[str, float] = {}

    def measure(
        self, case: Case, prompts: Sequence[Sequence[int]], again: Sequence[Sequence[int]]
    ) -> Measured:
        """Run the case twice, short and long, on two sets of fresh prompts.

        Before that, once for nothing: the peer's adapters are loaded too, and an adapter's load in
        the short run alone would count as speed.
        """
        self._run(case, [prompt[::-1] for prompt in prompts], 1)
        short = self._run(case, prompts, SHORT)
        first_token = max(self._firsts.values())
        return Measured(decoding_speed(case, short, self._run(case, again, LONG)), first_token)

    def _run(self, case: Case, prompts: Sequence[Sequence[int]], count: int) -> float:
        """Seconds until every stream has `count` tokens; notes when each got its first."""
        started = time.perf_counter()
        self._firsts = {}

        def emit(request_id: str, outcome: GenerationDelta | ServingError) -> None:
            if isinstance(outcome, ServingError):
                raise outcome
            self._firsts.setdefault(request_id, time.perf_counter() - started)

        params = SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True)
        for stream, prompt in enumerate(prompts):
            name = case.adapter_of(stream)
            adapter = AdapterRef(name, name) if name else None
            self._engine.add(GenerationRequest(f"{stream}", tuple(prompt), params, adapter))
        while self._engine.has_work:
            if not self._engine.step(emit):
                time.sleep(0.001)  # an adapter is on its way
        return time.perf_counter() - started
