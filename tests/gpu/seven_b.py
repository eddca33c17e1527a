"""Layers of the 7B shape in NF4, adapters of every kind, and engines over them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from server.bases import Base
from server.engine.build import build_engine
from server.engine.config import EngineSettings
from server.engine.engine import Engine
from tests.gpu.nf4_base import write_nf4_base, write_random_adapter
from tests.gpu.shapes import MISTRAL_7B, open_unhashed
from tests.support.serving import FolderSource

NAMES = (None, "r8", "r16", "r64", "qv")
RANKS = (8, 16, 64)


def write_parts(folder: Path, layers: int) -> tuple[Base, dict[str, Path]]:
    """A base of so many layers, and an adapter for each of NAMES but the first."""
    shape = {**MISTRAL_7B, "num_hidden_layers": layers}
    base = open_unhashed(write_nf4_base(folder / "base", shape))
    adapters = {
        f"r{rank}": write_random_adapter(folder / f"r{rank}", base.record, rank=rank)
        for rank in RANKS
    }
    few = ("q_proj", "v_proj")
    adapters["qv"] = write_random_adapter(folder / "qv", base.record, rank=4, targets=few)
    torch.cuda.empty_cache()
    return base, adapters


@contextmanager
def running(base: Base, adapters: Mapping[str, Path], **settings: Any) -> Iterator[Engine]:
    """An engine on the device, its memory given back at the end."""
    chosen = {"max_batch": 16, "max_slots": 4, "chunk": 256, "kv_memory": 1 << 30, **settings}
    limits = EngineSettings(
        **{"device": "cuda", "weights": "nf4", "block_size": 32, "host_memory": 1 << 30, **chosen}
    )
    engine = build_engine(base, FolderSource(adapters, base), limits)
    try:
        yield engine
    finally:
        engine.adapters.stop()
        vars(engine).clear()  # whoever still holds the engine holds no memory by it
        torch.cuda.empty_cache()


def prompt(number: int, length: int) -> list[int]:
    source = random.Random(number)
    return [source.randrange(32000) for _ in range(length)]
