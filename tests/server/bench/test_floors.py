"""Floors of the 7B shape, against the figures that they were worked out from by hand."""

from __future__ import annotations

import pytest

from server.bench.device_cases import zipf
from server.bench.floors import Floors
from server.bench.pull_apart import kind_of
from server.bench.workload import Case
from tests.server.engine.test_planner import MISTRAL, SETTINGS


@pytest.mark.parametrize(
    ("case", "milliseconds"),
    [(Case(1, 1), 0.949), (Case(16, 1), 1.42), (Case(16, 16), 1.71), (Case(64, 64), 4.40)],
)
def test_a_step_at_context_1024(case: Case, milliseconds: float) -> None:
    floors = Floors(MISTRAL, SETTINGS, rank=16)
    assert floors.decode(case, 1024) * 1e3 == pytest.approx(milliseconds, rel=0.02)


def test_prefill_is_bound_by_products() -> None:
    floors = Floors(MISTRAL, SETTINGS, rank=16)
    assert floors.prefill(1024) * 1e3 == pytest.approx(18.1, rel=0.02)
    assert floors.adapter_bytes == pytest.approx(83.9e6, rel=1e-3)


def test_the_first_are_asked_for_most() -> None:
    numbers = zipf(200, 10_000)
    assert numbers.count(0) == pytest.approx(2 * numbers.count(1), rel=0.2)
    assert max(numbers) > 150


def test_kernels_are_known_by_their_names() -> None:
    kinds = [kind_of(name) for name in ("nf4_wgmma", "decode_shrink_kernel", "_decode_kernel")]
    assert kinds == ["NF4 products", "LoRA", "attention"]
    assert kind_of("void at::native::reduce_kernel") == "other"
