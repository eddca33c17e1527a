"""Weighted sums of adapters say what PEFT's exact combination says, beside everybody else."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from server.engine.composition import compose
from server.engine.request import AdapterRef, WeightedAdapter
from server.errors import CompositionTooLarge
from tests.support.oracle import Oracle
from tests.support.serving import Driver, make_engine

SUMS: Mapping[str, Mapping[str, float]] = {
    "two": {"a": 0.7, "b": 0.3},
    "other weights": {"a": 0.3, "b": 0.7},
    "all": {"a": 0.6, "b": 1.2, "c": -0.5, "d": 0.4},
    "one": {"a": 1.5},
}
COUNT = 16
PROMPTS = [
    [random.Random(number).randrange(256) for _ in range(3 + 11 * number)] for number in range(5)
]
ENGINES: Mapping[str, dict[str, Any]] = {
    "plain": {"weights": "dense"},
    "nf4": {"weights": "nf4"},
    "device": {"weights": "dense", "fused": True},
    "few slots": {"weights": "dense", "max_slots": 2, "host_memory": 100_000},
}


def sum_of(scales: Mapping[str, float]) -> AdapterRef:
    return compose([WeightedAdapter(AdapterRef(n, n), scale) for n, scale in scales.items()])


@pytest.fixture(scope="module")
def oracles(tiny_base: Path, tiny_adapters: dict[str, Path]) -> Mapping[bool, Oracle]:
    """By whether the base is NF4."""
    made = {}
    for nf4 in (False, True):
        made[nf4] = Oracle(tiny_base, tiny_adapters, dtype=torch.float32, nf4=nf4)
        for name, scales in SUMS.items():
            made[nf4].add_up(name, scales)
    return made


@pytest.mark.parametrize("settings", ENGINES.values(), ids=ENGINES.keys())
def test_a_sum_says_what_the_oracle_says(
    settings: dict[str, Any],
    oracles: Mapping[bool, Oracle],
    tiny_base: Path,
    tiny_adapters: dict[str, Path],
) -> None:
    driver = Driver(make_engine(tiny_base, tiny_adapters, chunk=24, max_rank=32, **settings))
    adapters: list[tuple[str | None, str | AdapterRef | None]] = [
        (None, None),
        ("a", "a"),
        ("c", "c"),
        *((name, sum_of(scales)) for name, scales in SUMS.items()),
    ]
    random.Random(0).shuffle(adapters)
    jobs = [
        (prompt, name, driver.submit(prompt, ref, max_tokens=COUNT))
        for prompt in PROMPTS[:3]
        for name, ref in adapters
    ]
    driver.run()
    assert not driver.errors
    driver.engine.check_idle()
    oracle = oracles[settings["weights"] == "nf4"]
    said: dict[str | None, list[int]] = {}
    for _, name, request_id in jobs:
        said.setdefault(name, []).extend(driver.tokens(request_id))
    assert len(set(map(tuple, said.values()))) == len(adapters)  # the weights do count
    for prompt, name, request_id in jobs:
        assert driver.tokens(request_id) == oracle.greedy(name, prompt, COUNT)


def test_a_known_prefix_is_shared_by_equal_sums_alone(
    tiny_base: Path, tiny_adapters: dict[str, Path], oracles: Mapping[bool, Oracle]
) -> None:
    driver = Driver(make_engine(tiny_base, tiny_adapters, weights="dense", max_rank=32))
    prompt = PROMPTS[4]
    turned = compose(list(reversed(sum_of(SUMS["two"]).parts)))
    cached = []
    for name, ref in (
        ("a", AdapterRef("a", "a")),
        ("two", sum_of(SUMS["two"])),
        ("other weights", sum_of(SUMS["other weights"])),
        ("two", turned),
        ("a", AdapterRef("a", "a")),
    ):
        request_id = driver.submit(prompt, ref, max_tokens=4)
        driver.run()
        assert driver.tokens(request_id) == oracles[False].greedy(name, prompt, 4)
        cached.append(driver.deltas[request_id][0].num_cached_tokens)
    assert cached == [0, 0, 0, 32, 32]


def test_a_sum_of_too_high_a_rank_ends_its_request_alone(
    tiny_base: Path, tiny_adapters: dict[str, Path]
) -> None:
    driver = Driver(make_engine(tiny_base, tiny_adapters, weights="dense", max_rank=16))
    one = driver.submit(PROMPTS[1], sum_of(SUMS["all"]), max_tokens=4)
    other = driver.submit(PROMPTS[1], sum_of(SUMS["two"]), max_tokens=4)
    driver.run()
    assert isinstance(driver.errors[one], CompositionTooLarge)
    assert len(driver.tokens(other)) == 4
