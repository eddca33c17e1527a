"""What the adapter that is asked for most may have while others are asked for too."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest

from server.engine.fair_time import PASSES, RECENT, FairTime
from server.engine.scheduler import SMALL_PIECE
from server.engine.sequence import Sequence
from server.engine.step_costs import Line, StepCosts
from tests.server.engine.scheduled import Door, Run, decoded, prefilled

CHEAP = StepCosts(Line(0.004, 0.0001), Line(0.002, 0.0001))  # rows hardly lengthen a step
DEAR = StepCosts(Line(0.0, 0.001), Line(0.0, 0.001))  # each as much as the first


@dataclass
class Site:
    """A scheduler whose time passes when somebody says so."""

    costs: StepCosts
    fraction: float = 0.5
    door: Door = field(default_factory=lambda: Door(*"abcdef"))
    max_batch: int = 64
    chunk: int = 64
    now: float = 100.0

    def __post_init__(self) -> None:
        self.fair_time = FairTime(
            self.fraction, self.costs, chunk=self.chunk, clock=lambda: self.now
        )
        self.run = Run(
            self.door,
            blocks=2000,
            max_batch=self.max_batch,
            chunk=self.chunk,
            fair_time=self.fair_time,
        )

    def crowd(self, count: int, adapter: str = "a", num_prompt: int = 1) -> list[Sequence]:
        return [self.run.add(num_prompt, adapter, first=50 * n) for n in range(count)]

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.now += 0.005
            self.run.step()

    def running(self) -> Counter[str | None]:
        return Counter(each.adapter_digest for each in self.run.scheduler.running)


def test_an_adapter_nobody_else_is_asked_beside_has_everything() -> None:
    site = Site(DEAR)
    site.crowd(100)
    site.steps(2)
    assert site.running() == {"a": 64}
    assert len(decoded(site.run.step())) == 64


def test_rows_lengthen_a_step_by_half_of_the_share_at_most() -> None:
    site = Site(CHEAP)
    guests = site.crowd(3, "b")
    site.crowd(100)
    site.steps(40)
    others = 3 + 3  # and as many of the crowd as the guests are
    batches = [site.run.step() for _ in range(40)]
    assert all(set(guests) < set(decoded(batch)) for batch in batches)
    mean = sum(len(decoded(batch)) for batch in batches) / 40
    assert mean - others == pytest.approx(0.25 * CHEAP.of(others, 0) / CHEAP.decode.each, abs=0.05)
    assert site.running()["a"] < mean


def test_where_a_row_costs_as_much_as_a_step_it_decodes_in_some_of_them() -> None:
    site = Site(DEAR, fraction=0.5)
    site.crowd(1, "b")
    crowd = site.crowd(20)
    site.steps(30)
    assert site.running() == {"b": 1, "a": 2}
    counts = Counter(each for _ in range(40) for each in decoded(site.run.step()))
    assert counts[crowd[0]] == 40
    assert counts[crowd[1]] == pytest.approx(40 * 0.25 * 2, abs=1)


def test_whoever_rests_is_resumed_where_it_was() -> None:
    site = Site(DEAR)
    crowd = site.crowd(20)
    site.steps(3)
    said = [list(each.token_ids) for each in crowd]
    guest = site.run.add(1, "b", first=5000)
    site.steps(10)
    resting = [n for n, each in enumerate(crowd) if each.token_ids == said[n]]
    assert len(resting) == 18  # the first is free, the second decodes now and then
    assert site.run.scheduler.num_preemptions == 0
    site.run.scheduler.remove(guest)
    site.now += RECENT + 0.1
    assert set(crowd) <= set(decoded(site.run.step()))


def test_the_oldest_go_on_and_those_after_them_come_to_their_turn() -> None:
    site = Site(DEAR)
    site.crowd(1, "b")
    crowd = site.crowd(6)
    site.steps(12)
    for each in crowd:
        site.steps(4)
        assert each.num_generated > 1
        site.run.scheduler.remove(each)


def test_two_crowds_have_half_of_the_batch_each() -> None:
    site = Site(DEAR, max_batch=8, chunk=8)
    site.crowd(12)
    site.crowd(12, "b")
    site.steps(8)
    assert site.running() == {"a": 4, "b": 4}


def test_an_adapter_may_have_as_many_as_the_next_busiest() -> None:
    site = Site(DEAR, fraction=0.01)
    site.crowd(40)
    site.crowd(5, "b")
    site.crowd(2, "c")
    site.steps(10)
    assert site.running()["b"] == 5
    assert sum(each.account == "a" for each in decoded(site.run.step())) == 5


def test_two_adapters_with_much_to_compute_fill_a_chunk() -> None:
    site = Site(DEAR, fraction=0.125, max_batch=4, chunk=8)
    for name in "ab":
        site.crowd(4, name, num_prompt=30)
    for _ in range(6):
        assert sum(num_tokens for _, num_tokens in prefilled(site.run.step())) == 8


def test_a_prompt_that_would_wait_for_its_twin_finds_what_that_computed() -> None:
    """The twin has all that its adapter may have of the step, to the token."""
    site = Site(DEAR, fraction=0.25, chunk=32)
    site.crowd(2, "b")
    site.steps(2)
    twin, other = (site.run.add(8 + more, "a", first=5000) for more in (0, 4))
    assert prefilled(site.run.step()) == [(twin, 8)]
    assert prefilled(site.run.step()) == [(other, 4)]
    assert other.num_cached == 8


def test_even_one_long_prompt_leaves_room_beside_others() -> None:
    site = Site(DEAR, fraction=0.25, chunk=8)
    long = site.run.add(30, "a")
    assert prefilled(site.run.step()) == [(long, 8)]
    short = site.run.add(1, "b", first=600)
    assert sorted(prefilled(site.run.step()), key=lambda each: each[1]) == [(short, 1), (long, 2)]
    assert prefilled(site.run.step()) == [(long, 2)]


def passes(site: Site, seconds: float, staying: list[Sequence]) -> int:
    """Steps with prompts while so many seconds go by as the steps' costs say; answers are short."""
    end, count = site.now + seconds, 0
    while site.now < end:
        batch = site.run.step()
        num_tokens = sum(chunk.num_tokens for chunk in batch.prefilling)
        count += bool(num_tokens)
        site.now += site.costs.of(len(batch.decoding), num_tokens)
        for sequence in decoded(batch):
            if sequence.num_generated > 3 and sequence not in staying:
                site.run.scheduler.remove(sequence)
    return count


def test_large_passes_over_a_crowds_prompts_come_seldom_and_come() -> None:
    site = Site(CHEAP, fraction=0.125)
    staying = [*site.crowd(1, "b"), *site.crowd(1)]
    site.steps(1)
    site.crowd(200, num_prompt=60)
    site.steps(20)
    count = passes(site, 20.0, staying)
    longest = CHEAP.of(10, 64) + CHEAP.of(10, 0)
    assert count * CHEAP.of(1, 64) < 1.2 * PASSES * 0.125 * 20.0
    assert count > 0.8 * PASSES * 0.125 * 20.0 / longest


def test_a_prompt_of_many_passes_comes_to_its_end() -> None:
    site = Site(CHEAP, fraction=0.125)
    staying = [*site.crowd(1, "b"), *site.crowd(1)]
    site.steps(3)
    long = site.run.add(600, "a", first=10_000)
    assert passes(site, 10.0, staying) > 1
    assert long.num_generated > 0


def test_prompts_ride_with_others_as_far_as_they_hardly_lengthen_the_step() -> None:
    costs = StepCosts(Line(0.004, 0.0001), Line(0.002, 0.00002))
    site = Site(costs, fraction=0.125, chunk=512)
    site.crowd(1, "b")
    site.crowd(20, num_prompt=60)
    site.steps(3)
    riders = site.fair_time.tokens_beside(2, 40)
    assert riders == int(0.0625 * costs.of(2, 40) / 0.00002)
    assert site.fair_time.tokens_beside(2, 0) <= 0  # a pass of its own costs more than that
    newcomer = site.run.add(40, "c", first=20_000)
    chunks = dict(prefilled(site.run.step()))
    assert chunks.pop(newcomer) == 40
    assert 0 < sum(chunks.values()) <= site.fair_time.tokens_beside(3, 40)


def test_pieces_too_small_to_be_worth_a_ride_wait_for_a_pass() -> None:
    site = Site(CHEAP, fraction=0.125, chunk=512)
    site.crowd(1, "b")
    site.crowd(20, num_prompt=60)
    site.steps(3)
    assert 0 < site.fair_time.tokens_beside(2, 40) < SMALL_PIECE
    newcomer = site.run.add(40, "c", first=20_000)
    assert prefilled(site.run.step()) == [(newcomer, 40)]


def test_until_a_step_has_been_timed_an_adapter_has_as_many_rows_as_others() -> None:
    site = Site(StepCosts())
    site.crowd(2, "b")
    site.crowd(30)
    site.steps(20)
    assert sum(each.account == "a" for each in decoded(site.run.step())) == 2


def test_an_adapter_counts_as_asked_for_a_while_after_its_last_has_gone() -> None:
    site = Site(DEAR)
    guest = site.run.add(1, "b", first=5000)
    site.crowd(30)
    site.steps(5)
    site.now += 10 * RECENT
    site.run.scheduler.remove(guest)
    site.now += 0.9 * RECENT
    assert len(decoded(site.run.step())) < 4
    site.now += 0.2 * RECENT
    site.run.step()
    assert len(decoded(site.run.step())) == 30


def test_all_of_it_for_one_binds_nobody() -> None:
    site = Site(DEAR, fraction=1.0)
    site.crowd(1, "b")
    site.crowd(60)
    site.steps(2)
    assert len(decoded(site.run.step())) == 61
