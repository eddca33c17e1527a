"""One adapter with a hundred streams beside others with one each, in the simulation's time."""

from __future__ import annotations

import pytest

from tests.torture.crowded_simulation import CASES, CROWD, Case
from tests.torture.crowding import Crowding

SECONDS = 12.0
SHARE = 0.125  # the default of `hatstand serve`
MOST = 1.2  # times what the others wait beside one stream of it


def times_as_long(now: Crowding, before: Crowding) -> tuple[float, float, float]:
    """At the 95th percentile: first texts, gaps, whole answers."""
    return (
        now.first[1] / before.first[1],
        now.between[1] / before.between[1],
        now.whole[1] / before.whole[1],
    )


@pytest.mark.parametrize("case", [CASES[2], CASES[5]], ids=lambda case: case.name)
def test_a_crowd_of_one_adapter_costs_others_a_fifth_at_most(case: Case) -> None:
    few = case.crowding(1, SHARE, SECONDS)
    bound = case.crowding(CROWD, SHARE, SECONDS)
    assert max(times_as_long(bound, few)) < MOST
    assert bound.crowd_tokens > few.crowd_tokens  # it has what it would have had, and more
    unbound = case.crowding(CROWD, 1.0, SECONDS / 3)
    assert max(times_as_long(unbound, few)) > 2 * MOST
