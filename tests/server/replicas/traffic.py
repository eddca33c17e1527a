"""Zipf traffic over more adapters than one replica has slots, and how it would fare unrouted."""

from __future__ import annotations

import random
from collections import OrderedDict
from pathlib import Path

from registry import Registry
from registry.bases import read_base
from tests.support.tiny import TinyAdapter

ADAPTERS = [f"task{number}" for number in range(8)]
TRAFFIC = random.Random(7).choices(ADAPTERS, [1 / rank for rank in range(1, 9)], k=100)
REPLICAS, SLOTS = 2, 4


def push_adapters(folder: Path, base: Path) -> Registry:
    """A registry in `folder` with all of ADAPTERS."""
    registry = Registry.open(folder / "registry")
    for seed, name in enumerate(ADAPTERS):
        adapter = TinyAdapter(name, seed=seed, targets=("q_proj",)).write(base, folder / name)
        registry.push(adapter, name, base=read_base(base))
    return registry


def hits_at_random() -> float:
    """Share of TRAFFIC that finds its adapter in a slot when sent anywhere."""
    chance, hits = random.Random(1), 0
    slots = [OrderedDict[str, None]() for _ in range(REPLICAS)]
    for name in TRAFFIC:
        held = chance.choice(slots)
        hits += name in held
        held[name] = held.pop(name, None)
        if len(held) > SLOTS:
            held.popitem(last=False)
    return hits / len(TRAFFIC)
