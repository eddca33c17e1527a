"""Embeddings are what transformers' hidden states come to, beside everything else."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from server.engine.composition import compose
from server.engine.request import AdapterRef, Pooling, WeightedAdapter
from server.errors import NonFiniteLogits
from tests.support.oracle import Oracle
from tests.support.serving import Driver, make_engine
from tests.support.tiny import TinyAdapter, write_tiny_base

PROMPTS = [
    [random.Random(length).randrange(256) for _ in range(length)] for length in (1, 2, 16, 33, 90)
]
SUM = {"a": 0.7, "b": -0.4}
ENGINES: Mapping[str, dict[str, Any]] = {
    "plain": {"weights": "dense"},
    "nf4": {"weights": "nf4"},
    "device": {"weights": "dense", "fused": True},
}
POOLINGS: tuple[Pooling, ...] = ("mean", "last")
FP32 = 2e-5  # what a coordinate may be off, of vectors of length 1


@pytest.fixture(scope="module")
def oracles(tiny_base: Path, tiny_adapters: dict[str, Path]) -> Mapping[bool, Oracle]:
    """By whether the base is NF4."""
    made = {}
    for nf4 in (False, True):
        made[nf4] = Oracle(tiny_base, tiny_adapters, dtype=torch.float32, nf4=nf4)
        made[nf4].add_up("sum", SUM)
    return made


def pooled(states: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    vector = states.double().mean(0) if pooling == "mean" else states[-1].double()
    return (vector / vector.norm()).float()


def sum_of_two() -> AdapterRef:
    return compose([WeightedAdapter(AdapterRef(n, n), scale) for n, scale in SUM.items()])


def check(found: torch.Tensor, states: torch.Tensor, pooling: Pooling) -> None:
    torch.testing.assert_close(found, pooled(states, pooling), atol=FP32, rtol=0)


@pytest.mark.parametrize("settings", ENGINES.values(), ids=ENGINES.keys())
def test_in_any_company_they_are_the_oracles(
    settings: dict[str, Any],
    oracles: Mapping[bool, Oracle],
    tiny_base: Path,
    tiny_adapters: dict[str, Path],
) -> None:
    driver = Driver(make_engine(tiny_base, tiny_adapters, chunk=24, **settings))
    oracle = oracles[settings["weights"] == "nf4"]
    names = {None: None, "a": "a", "c": "c", "sum": sum_of_two()}
    talking = [(name, driver.submit(PROMPTS[3], name, max_tokens=12)) for name in (None, "a", "d")]
    for _ in range(4):
        driver.step()
    jobs = [
        (prompt, name, pooling, driver.embed(prompt, names[name], pooling))
        for prompt, name, pooling in product(PROMPTS, names, POOLINGS)
    ]
    driver.run()
    assert not driver.errors
    driver.engine.check_idle()
    for prompt, name, pooling, request_id in jobs:
        check(driver.embedding(request_id), oracle.states(name, prompt), pooling)
        (delta,) = driver.deltas[request_id]
        assert (delta.finish_reason, delta.token_ids, delta.text) == ("stop", (), "")
        assert delta.num_prompt_tokens == len(prompt)
    for name, request_id in talking:
        assert driver.tokens(request_id) == oracle.greedy(name, PROMPTS[3], 12)


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "device"])
def test_a_known_prefix_is_taken_up_where_only_the_last_row_counts(
    fused: bool, tiny_base: Path, oracles: Mapping[bool, Oracle]
) -> None:
    driver = Driver(make_engine(tiny_base, weights="dense", fused=fused))
    cached = []
    for pooling in ("mean", "mean", "last", "last", "mean"):
        request_id = driver.embed(PROMPTS[4], None, pooling)
        driver.run()
        check(driver.embedding(request_id), oracles[False].states(None, PROMPTS[4]), pooling)
        cached.append(driver.deltas[request_id][0].num_cached_tokens)
    assert cached == [0, 0, 0, 80, 0]


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "device"])
def test_what_is_preempted_is_counted_once(
    fused: bool, tiny_base: Path, oracles: Mapping[bool, Oracle]
) -> None:
    small = make_engine(
        tiny_base, chunk=2, block_size=4, kv_memory=120 << 10, weights="dense", fused=fused
    )
    driver = Driver(small)
    talking = [driver.submit(PROMPTS[1], max_tokens=80) for _ in range(3)]
    for _ in range(6):
        driver.step()
    ids = [driver.embed(PROMPTS[4]) for _ in range(2)]
    driver.run()
    assert small.stats().num_preemptions > 0  # of the newest, which are to be embedded
    for request_id in ids:
        check(driver.embedding(request_id), oracles[False].states(None, PROMPTS[4]), "mean")
    assert all(len(driver.tokens(request_id)) == 80 for request_id in talking)
    small.check_idle()


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "device"])
def test_leaving_early_leaves_nothing_behind(fused: bool, tiny_base: Path) -> None:
    driver = Driver(make_engine(tiny_base, chunk=16, weights="dense", fused=fused))
    for steps in range(8):
        request_id = driver.embed(PROMPTS[4])
        for _ in range(steps):
            driver.step()
        driver.engine.abort(request_id)
    driver.run()
    driver.engine.check_idle()


@pytest.mark.parametrize("head_dim", [32, 16], ids=["compiled", "plain"])
def test_company_changes_no_bit(head_dim: int, tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base", head_dim=head_dim)
    adapters = {"a": TinyAdapter("a", rank=4).write(base, tmp_path / "a")}

    def embed(chunk: int, company: int) -> list[torch.Tensor]:
        driver = Driver(
            make_engine(base, adapters, weights="nf4", dtype=torch.bfloat16, chunk=chunk)
        )
        for number in range(company):
            driver.submit(PROMPTS[number % 5], (None, "a")[number % 2], max_tokens=20)
        driver.step()
        ids = [driver.embed(PROMPTS[4], "a", pooling) for pooling in POOLINGS]
        driver.run()
        return [driver.embedding(request_id) for request_id in ids]

    alone = embed(256, 0)
    for chunk, company in ((7, 0), (32, 9), (256, 5)):
        for one, other in zip(alone, embed(chunk, company), strict=True):
            assert torch.equal(one, other)
    assert all(abs(float(vector.norm()) - 1) < 1e-6 for vector in alone)


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "device"])
def test_what_is_not_finite_is_an_error_of_its_own(fused: bool, tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base")
    broken = TinyAdapter("broken", rank=4).write(base, tmp_path / "broken", std=1e30)
    driver = Driver(make_engine(base, {"broken": broken}, weights="dense", fused=fused))
    bad, good = driver.embed(PROMPTS[3], "broken"), driver.embed(PROMPTS[3])
    driver.run()
    assert isinstance(driver.errors[bad], NonFiniteLogits)
    assert len(driver.embedding(good)) == 64
    driver.engine.check_idle()


@pytest.mark.parametrize("pooling", [None, "mean", "last"])
def test_prompts_of_several_chunks_in_the_batch_invariant_mode(
    pooling: Pooling | None, tiny_base: Path, oracles: Mapping[bool, Oracle]
) -> None:
    """A pass of which no row samples has no logits to make."""
    driver = Driver(
        make_engine(
            tiny_base,
            weights="dense",
            fused=True,
            gemm="batch-invariant",
            chunk=16,
            lone_chunk=32,
        )
    )
    request_id = driver.submit(PROMPTS[4], max_tokens=4, pooling=pooling)
    driver.run()
    if pooling is None:
        assert driver.tokens(request_id) == oracles[False].greedy(None, PROMPTS[4], 4)
    else:
        check(driver.embedding(request_id), oracles[False].states(None, PROMPTS[4]), pooling)
