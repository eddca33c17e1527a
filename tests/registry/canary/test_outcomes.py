from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.canary.outcomes import BOUNDS, Latencies, Outcomes
from registry.errors import InvalidRequest


def histogram(times: list[float]) -> Latencies:
    latencies = Latencies()
    for seconds in times:
        latencies = latencies.plus(seconds)
    return latencies


@given(st.lists(st.floats(0.0011, 100), min_size=1, max_size=200), st.sampled_from([0.5, 0.95]))
def test_a_quantile_is_right_within_a_bucket(times: list[float], share: float) -> None:
    found = histogram(times).quantile(share)
    exact = sorted(times)[max(0, -(-len(times) * share // 1).__int__() - 1)]
    assert found is not None
    assert exact / 1.2501 <= found <= exact * 1.2501


def test_the_ends_of_a_histogram() -> None:
    assert Latencies().quantile(0.95) is None
    assert histogram([0.0]).quantile(0.95) == pytest.approx(0.00095)
    assert histogram([1e6]).quantile(0.5) == BOUNDS[-1]


@given(st.lists(st.floats(0, 200)), st.lists(st.floats(0, 200)))
def test_servers_add_up(here: list[float], there: list[float]) -> None:
    assert histogram(here) + histogram(there) == histogram(here + there)


def test_outcomes_travel_as_json() -> None:
    times = [random.Random(1).random() for _ in range(20)]
    outcomes = Outcomes(20, 3, histogram(times), histogram(times[:5]))
    assert Outcomes.read(outcomes.to_dict(), source="target") == outcomes
    assert (outcomes + Outcomes()).error_rate == 0.15


@pytest.mark.parametrize(
    "change",
    [
        {"requests": -1},
        {"requests": True},
        {"errors": 21},
        {"ttft": [1, 2]},
        {"inter_token": None},
        {"ttft": [0.5] * (len(BOUNDS) + 1)},
    ],
)
def test_counts_that_are_none_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest, match="target"):
        Outcomes.read({**Outcomes(20, 3).to_dict(), **change}, source="target")
