"""The engine says what transformers + peft + bitsandbytes say, whatever the batch."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.oracle import Oracle
from tests.support.serving import Driver, make_engine
from tests.support.tiny import TinyAdapter, write_tiny_base

LONGEST = 24  # generated tokens that the oracle computes for a prompt, once

WEIGHTS = ("dense", "nf4", "nf4-shadow")


@dataclass(frozen=True)
class Job:
    """A request, and after how many steps it arrives."""

    prompt: int
    adapter: str | None
    count: int
    arrival: int


@dataclass(frozen=True)
class Shape:
    """How the engine is squeezed."""

    chunk: int
    max_batch: int
    num_blocks: int
    max_slots: int
    block_size: int


jobs = st.builds(
    Job,
    prompt=st.integers(0, 11),
    adapter=st.sampled_from([None, "a", "b", "c", "d"]),
    count=st.integers(1, LONGEST),
    arrival=st.integers(0, 12),
)
shapes = st.builds(
    Shape,
    chunk=st.sampled_from([1, 3, 16, 40, 256]),
    max_batch=st.sampled_from([1, 2, 5, 16]),
    num_blocks=st.sampled_from([14, 20, 60]),
    max_slots=st.sampled_from([1, 2, 4]),
    block_size=st.sampled_from([8, 16]),
)


def prompt_of(number: int) -> list[int]:
    """Prompts 0 to 11; the odd ones begin like the even ones before them, to share blocks."""
    source = random.Random(number // 2)
    tokens = [source.randrange(256) for _ in range(source.randrange(2, 70))]
    return tokens + [number] * (number % 2)


class Expected:
    """The oracle's greedy tokens, computed once for each prompt and adapter."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._known: dict[tuple[int, str | None], list[int]] = {}

    def tokens(self, job: Job) -> list[int]:
        key = (job.prompt, job.adapter)
        if key not in self._known:
            self._known[key] = self._oracle.greedy(job.adapter, prompt_of(job.prompt), LONGEST)
        return self._known[key][: job.count]


@pytest.fixture(scope="module")
def expected(tiny_base: Path, tiny_adapters: dict[str, Path]) -> dict[bool, Expected]:
    """By whether the base is NF4; both compute in fp32, where near ties do not happen."""
    return {
        nf4: Expected(Oracle(tiny_base, tiny_adapters, dtype=torch.float32, nf4=nf4))
        for nf4 in (False, True)
    }


def run(driver: Driver, batch: list[Job]) -> list[str]:
    """Submit each job when its step has come; the request ids in the order of `batch`."""
    ids = {}
    for step in range(13):
        for index, job in enumerate(batch):
            if job.arrival == step:
                ids[index] = driver.submit(prompt_of(job.prompt), job.adapter, max_tokens=job.count)
        driver.step()
    driver.run()
    return [ids[index] for index in range(len(batch))]


@pytest.mark.parametrize("weights", WEIGHTS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batch=st.lists(jobs, min_size=1, max_size=12), shape=shapes)
def test_any_mix_yields_the_oracles_tokens(
    batch: list[Job],
    shape: Shape,
    weights: str,
    expected: dict[bool, Expected],
    tiny_base: Path,
    tiny_adapters: dict[str, Path],
) -> None:
    engine = make_engine(
        tiny_base,
        tiny_adapters,
        weights=weights,
        chunk=shape.chunk,
        max_batch=shape.max_batch,
        max_slots=shape.max_slots,
        block_size=shape.block_size,
        kv_memory=shape.num_blocks * shape.block_size * 512,  # 512 bytes a token here
    )
    driver = Driver(engine)
    ids = run(driver, batch)
    assert not driver.errors
    for job, request_id in zip(batch, ids, strict=True):
        assert driver.tokens(request_id) == expected[weights != "dense"].tokens(job)
    engine.check_idle()


def test_preemption_happens_in_these_shapes(
    tiny_base: Path, tiny_adapters: dict[str, Path], expected: dict[bool, Expected]
) -> None:
    """The property above is worth something only if blocks do run out."""
    engine = make_engine(
        tiny_base, tiny_adapters, weights="nf4", block_size=8, kv_memory=20 * 8 * 512
    )
    driver = Driver(engine)
    batch = [Job(number, name, LONGEST, 0) for number in range(4) for name in ("a", "b", None)]
    ids = run(driver, batch)
    assert engine.stats().num_preemptions > 0
    for job, request_id in zip(batch, ids, strict=True):
        assert driver.tokens(request_id) == expected[True].tokens(job)


ODD_SHAPES: dict[str, dict[str, Any]] = {
    "sliding window": {"sliding_window": 20},
    "head_dim apart from hidden/heads": {"head_dim": 32},
    "one KV head": {"num_key_value_heads": 1},
    "as many KV heads as heads": {"num_key_value_heads": 4},
    "tied embeddings": {"tie_word_embeddings": True},
    "hidden not a multiple of 64": {"hidden_size": 96, "intermediate_size": 160},
    "another rope base": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
}


@pytest.mark.parametrize("shape", ODD_SHAPES.values(), ids=ODD_SHAPES.keys())
def test_any_mistral_shape(shape: dict[str, Any], tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base", **shape)
    adapters = {"a": TinyAdapter("a", rank=4).write(base, tmp_path / "a")}
    nf4 = shape.get("hidden_size", 64) % 64 == 0  # else bitsandbytes on CPU mixes up its scales
    expected = Expected(Oracle(base, adapters, dtype=torch.float32, nf4=nf4))
    weights = "nf4" if nf4 else "dense"
    engine = make_engine(base, adapters, weights=weights, chunk=32, kv_memory=1 << 22)
    driver = Driver(engine)
    batch = [Job(number, name, 16, number) for number in range(6) for name in ("a", None)]
    ids = run(driver, batch)
    for job, request_id in zip(batch, ids, strict=True):
        assert driver.tokens(request_id) == expected.tokens(job)
