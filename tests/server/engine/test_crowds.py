"""One adapter with a hundred streams beside others with one each, in the simulation's time."""

from __future__ import annotations

import pytest

from tests.torture.crowded_simulation import CASES, CROWD, Case

SECONDS = 12.0
SHARE = 0.125  # the default of `hatstand serve`
MOST = 1.2  # times what the others wait beside one stream of it


@pytest.mark.parametrize("case", [CASES[2], CASES[5]], ids=lambda case: case.name)
def test_a_crowd_of_one_adapter_costs_others_a_fifth_at_most(case: Case) -> None:
    few = case.crowding(1, SHARE, SECONDS)
    bound = case.crowding(CROWD, SHARE, SECONDS)
    assert max(bound.times_as_long(few)) < MOST
    assert bound.crowd_tokens > few.crowd_tokens  # it has what it would have had, and more
    unbound = case.crowding(CROWD, 1.0, SECONDS / 3)
    assert max(unbound.times_as_long(few)) > 2 * MOST
