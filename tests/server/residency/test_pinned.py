"""Memory that is taken once, handed out and given back."""

from __future__ import annotations

import gc
import itertools
import random

import pytest
import torch

from server.residency import pinned
from server.residency.pinned import Extent, PinnedMemory

SLAB = 64 * pinned.ALIGNMENT


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> PinnedMemory:
    """Three slabs of ordinary memory."""
    monkeypatch.setattr(pinned, "SLAB_BYTES", SLAB)
    take = torch.empty
    monkeypatch.setattr(torch, "empty", lambda size, **_: take(size, dtype=torch.uint8))
    return PinnedMemory(3 * SLAB, pin=True)


def places(extents: list[Extent]) -> list[tuple[int, int]]:
    """(first address, end) of each, sorted; asserts that no two overlap."""
    spans = sorted((e.data.data_ptr(), e.data.data_ptr() + len(e.data)) for e in extents)
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
    return spans


def slabs_of(memory: PinnedMemory, extent: Extent) -> list[int]:
    at = extent.data.data_ptr()
    return [
        number
        for number, slab in enumerate(memory._slabs)
        if slab.data_ptr() <= at < slab.data_ptr() + len(slab)
    ]


def test_nothing_overlaps_and_everything_comes_back(memory: PinnedMemory) -> None:
    source = random.Random(0)
    held: list[Extent] = []
    for _ in range(500):
        held.append(memory.allocate(source.randrange(1, SLAB // 2)))
        places(held)
        while len(held) > 4:
            held.pop(source.randrange(len(held)))
    held.clear()
    gc.collect()
    whole = [memory.allocate(SLAB) for _ in range(3)]
    assert sorted(slabs_of(memory, extent)[0] for extent in whole) == [0, 1, 2]


def test_what_does_not_fit_is_taken_by_itself(memory: PinnedMemory) -> None:
    large = memory.allocate(2 * SLAB)
    assert (len(large.data), slabs_of(memory, large)) == (2 * SLAB, [])


def test_without_a_device_nothing_is_taken_ahead() -> None:
    memory = PinnedMemory(1 << 40, pin=False)
    assert memory._slabs == []
    assert len(memory.allocate(10).data) == 10
