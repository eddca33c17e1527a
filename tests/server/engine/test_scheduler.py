"""Who runs next: order, budget, adapters that are not there yet, blocks that run out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine import admission
from server.engine.request import (
    AdapterRef,
    SamplingParams,
    WeightedAdapter,
)
from server.engine.sequence import Sequence
from tests.server.engine.scheduled import SIZE, Door, Run, decoded, prefilled


def test_a_long_prompt_is_computed_in_chunks_and_sampled_at_its_end() -> None:
    run = Run(chunk=4)
    sequence = run.add(10)
    batches = [run.step() for _ in range(4)]
    assert [prefilled(batch) for batch in batches[:3]] == [[(sequence, n)] for n in (4, 4, 2)]
    assert [batch.sampling for batch in batches] == [[], [], [sequence], [sequence]]
    assert decoded(batches[3]) == [sequence]
    assert sequence.num_generated == 2


def test_a_new_prompt_waits_a_few_steps_for_one_whose_adapter_is_on_its_way() -> None:
    run = Run(Door("a"), patience=2)
    run.add(2)
    run.step()
    early, late = run.add(3, "a"), run.add(3, "b")
    assert prefilled(run.step()) == []
    run.door.ready.append("b")
    assert prefilled(run.step()) == [(early, 3), (late, 3)]


def test_what_waits_for_others_brings_nobodys_turn_nearer() -> None:
    run = Run(Door("a", "c"), patience=2)
    run.add(2)
    run.step()
    before = run.scheduler._turns.next("c", 1)
    run.add(3, "a")
    run.add(3, "late")
    for _ in range(2):
        assert prefilled(run.step()) == []
    assert run.scheduler._turns.next("c", 1) == before
    run.step()
    assert run.scheduler._turns.next("c", 1) > before


def test_new_prompts_wait_no_longer_than_their_patience_and_for_nobody_who_is_there() -> None:
    run = Run(Door("a"), patience=2)
    run.add(3, "b")
    alone = run.add(2, "a")
    assert prefilled(run.step()) == [(alone, 2)]  # it holds nobody up
    ready = run.add(5, "a")
    assert [prefilled(run.step()) for _ in range(3)] == [[], [], [(ready, 5)]]
    full = run.add(12, "a", first=50)
    assert [prefilled(run.step()) for _ in range(2)] == [[(full, 8)], [(full, 4)]]


def test_a_prompt_takes_more_at_once_where_it_holds_nobody_up() -> None:
    run = Run(chunk=4, lone_chunk=12)
    first = run.add(10)
    assert prefilled(run.step()) == [(first, 10)]
    second = run.add(10, first=50)
    assert [prefilled(run.step()) for _ in range(3)] == [[(second, n)] for n in (4, 4, 2)]


def test_adapters_of_those_who_come_next_are_fetched_while_the_batch_is_full() -> None:
    run = Run(Door("a"), max_batch=1)
    run.add(3, "a")
    run.step()
    for number, name in enumerate(["c", "d", "c", None, *(f"x{n}" for n in range(20))]):
        run.add(3, name, first=10 * number + 20)
    run.step()
    assert run.door.wanted == []  # they need no slot yet
    assert run.door.expected[:3] == ["c", "d", "x0"]
    assert len(run.door.expected) < admission.EXPECTED + 1


def test_prompts_share_the_budget_in_order_of_arrival() -> None:
    run = Run(chunk=8)
    first, second, third = run.add(5), run.add(5, first=50), run.add(5, first=90)
    assert prefilled(run.step()) == [(first, 5), (second, 3)]
    assert prefilled(run.step()) == [(second, 2), (third, 5)]


def test_decoding_goes_on_beside_a_long_prompt_and_takes_none_of_its_budget() -> None:
    run = Run(chunk=4)
    short = run.add(2)
    run.step()
    long = run.add(40, first=100)
    for _ in range(10):
        batch = run.step()
        assert decoded(batch) == [short]
        assert prefilled(batch) == [(long, 4)]


def test_no_more_sequences_run_than_allowed() -> None:
    run = Run(max_batch=2)
    sequences = [run.add(2, first=10 * n) for n in range(3)]
    run.step()
    assert run.scheduler.running == sequences[:2]
    run.scheduler.remove(sequences[0])
    run.step()
    assert run.scheduler.running == sequences[1:]


def test_a_sequence_whose_adapter_is_loading_is_passed_over() -> None:
    run = Run(Door("a"))
    late, ready, base = run.add(2, "late"), run.add(2, "a"), run.add(2)
    assert {s for s, _ in prefilled(run.step())} == {ready, base}
    assert run.door.wanted == ["late"]
    run.door.ready.append("late")
    assert prefilled(run.step()) == [(late, 2)]
    assert late.slot == 1


def test_a_step_looks_once_at_each_adapter_however_many_wait_for_it() -> None:
    run = Run(Door("a"), max_batch=3)
    late = [run.add(2, "late") for _ in range(50)]
    run.add(2, "later")
    ready = [run.add(2, "a") for _ in range(50)]
    run.step()
    assert run.scheduler.running == ready[:3]
    assert run.door.wanted == ["late", "later"]
    run.door.ready.append("late")
    for sequence in ready[:3]:
        run.scheduler.remove(sequence)
    run.step()
    assert run.scheduler.running == [late[0], ready[3], late[1]]  # in turn, who came first first
    assert list(run.scheduler.waiting)[:2] == [late[2], late[3]]


def test_an_adapter_asked_for_by_many_leaves_the_others_their_turn() -> None:
    run = Run(Door("a", "b", "c"), max_batch=4)
    crowd = [run.add(2, "a", first=10 * n) for n in range(100)]
    run.step()
    assert run.scheduler.running == crowd[:4]
    guests = [run.add(2, "b"), run.add(2, "b"), run.add(2, "c"), run.add(2)]
    for gone in crowd[:3]:
        run.scheduler.remove(gone)
    run.step()
    assert run.scheduler.running == [crowd[3], guests[0], guests[2], guests[3]]
    run.scheduler.remove(crowd[3])
    run.step()
    assert run.scheduler.running[-1] is crowd[4]  # who has none running comes before a second


def test_a_place_is_made_for_an_adapter_that_has_fewer() -> None:
    run = Run(max_batch=4)
    crowd = [run.add(2, "a", first=10 * n) for n in range(6)]
    run.step()
    guest = run.add(2, "b", first=90)
    assert (guest, 2) in prefilled(run.step())
    assert run.scheduler.running == [*crowd[:3], guest]
    for _ in range(3):
        run.step()
    assert run.scheduler.num_preemptions == 1
    run.scheduler.remove(guest)
    run.step()
    assert run.scheduler.running == crowd[:4]  # who gave way is the first to come back


def test_who_gave_way_keeps_its_slot() -> None:
    run = Run(Door("a", "b"), max_batch=2)
    crowd = [run.add(2, "a", first=10 * n) for n in range(2)]
    run.step()
    run.add(2, "b", first=90)
    run.step()
    run.door.ready[0] = "leaving"  # it takes no newcomers and goes when the last has left
    run.scheduler.remove(crowd[0])
    run.step()
    assert crowd[1] in run.scheduler.running
    assert run.door.wanted == []
    run.scheduler.remove(crowd[1])
    run.check()


def test_where_many_wait_for_few_places_nobody_takes_anothers_in_turns() -> None:
    run = Run(Door(*"abcd"), max_batch=6, blocks=200)
    for number in range(8):
        run.add(2, "a", first=10 * number)
    for _ in range(2):
        run.step()
    for number in range(12):
        run.add(2, "bcd"[number % 3], first=100 + 10 * number)
    for _ in range(20):
        run.step()
    assert run.scheduler.num_preemptions == 3  # for the first of each that had none
    assert Counter(s.adapter_digest for s in run.scheduler.running) == {
        "a": 3,
        **dict.fromkeys("bcd", 1),
    }


def test_an_adapter_gets_its_equal_part_though_others_do_not_end() -> None:
    run = Run(Door("a", "b"), max_batch=8, blocks=200)
    for number in range(10):
        run.add(2, "a", first=10 * number)
    run.step()
    for number in range(6):
        run.add(2, "b", first=200 + 10 * number)
    for _ in range(4):
        run.step()
    assert Counter(s.adapter_digest for s in run.scheduler.running) == {"a": 4, "b": 4}


def test_a_composition_counts_as_its_largest_part() -> None:
    def mixed(number: int) -> AdapterRef:
        parts = (
            WeightedAdapter(AdapterRef("a", "a"), 0.5 + number),
            WeightedAdapter(AdapterRef("c", "c"), -0.25),
        )
        return AdapterRef(f"mixed{number}", "mixed", parts=parts)

    run = Run(Door("b", *(f"mixed{number}" for number in range(9))), max_batch=4, blocks=200)
    crowd = [run.add(2, mixed(number), first=10 * number) for number in range(9)]
    run.step()
    guests = [run.add(2, "b", first=200 + 10 * number) for number in range(3)]
    run.step()
    assert run.scheduler.running == [*crowd[:2], *guests[:2]]
    plain = AdapterRef("a", "a")
    even = tuple(WeightedAdapter(AdapterRef(name, name), 1.0) for name in "ba")
    assert AdapterRef("x", "x", parts=even).account == plain.account


def test_nobody_gives_way_to_who_cannot_come_or_has_as_many() -> None:
    run = Run(Door("a", "b"), max_batch=2)
    first, second = run.add(2, "a"), run.add(2, "b", first=30)
    run.step()
    for number, name in enumerate(("late", "a", "b", None)):
        run.add(2, name, first=10 * number + 50)
    run.step()
    assert run.scheduler.running == [first, second]
    run = Run(Door("a"), max_batch=2)
    crowd = [run.add(2, "a", first=10 * n) for n in range(2)]
    run.step()
    run.add(2, "late", first=50)
    run.step()
    assert run.scheduler.running == crowd
    assert run.door.wanted == ["late"]


def test_blocks_are_made_free_for_an_adapter_that_has_fewer() -> None:
    run = Run(blocks=8, chunk=40)
    crowd = [run.add(6, "a", first=10 * n) for n in range(2)]
    run.step()
    guest = run.add(12, "b", first=90)
    assert (guest, 12) in prefilled(run.step())
    assert run.scheduler.running == [crowd[0], guest]


def test_a_short_prompt_does_not_wait_for_anothers_long_ones() -> None:
    run = Run(chunk=8, blocks=100)
    long = [run.add(40, "a", first=100 * n) for n in range(3)]
    run.step()
    short = run.add(6, "b", first=900)
    assert prefilled(run.step()) == [(long[0], 2), (short, 6)]
    for _ in range(4):
        assert prefilled(run.step()) == [(long[0], 8)] or long[0].is_decoding


def test_prompts_of_as_busy_adapters_are_computed_whole_one_after_the_other() -> None:
    run = Run(Door("a", "b", "c"), chunk=8)
    prompts = [run.add(8, name, first=10 * n) for n, name in enumerate("abcabc")]
    assert [prefilled(run.step()) for _ in prompts] == [[(each, 8)] for each in prompts]


def test_an_adapter_is_wanted_until_the_last_that_waits_for_it_has_gone() -> None:
    run = Run(Door())
    first, last = run.add(2, "late"), run.add(2, "late")
    run.step()
    run.scheduler.remove(first)
    assert run.door.wanted == ["late"]
    run.scheduler.remove(last)
    assert run.door.wanted == []


def test_nothing_to_run_is_an_empty_batch() -> None:
    run = Run(Door())
    assert not run.scheduler.next()
    run.add(2, "late")
    assert not run.scheduler.next()
    assert run.scheduler.has_work


def test_a_prompt_without_blocks_waits_and_is_not_overtaken_for_ever() -> None:
    run = Run(blocks=6)
    running = run.add(8)
    run.step()
    large, small = run.add(12, first=100), run.add(1, first=200)
    assert decoded(run.step()) == [running]
    assert next(iter(run.scheduler.waiting)) is large
    run.scheduler.remove(running)
    run.step()
    run.step()
    assert large in run.scheduler.running
    assert small in run.scheduler.running


def test_a_prompt_that_waits_for_blocks_does_not_count_as_using_its_adapter() -> None:
    run = Run(blocks=4)
    run.add(8)
    run.step()
    run.add(12, "a", first=100)
    run.step()
    assert run.door.users["a"] == 0


def test_when_blocks_run_out_the_newest_gives_its_up_and_goes_first_again() -> None:
    run = Run(blocks=6)
    old, new = run.add(7), run.add(7, "a", first=100)
    run.step()
    run.step()
    last = run.add(1, first=200)
    said = list(new.token_ids)
    while new in run.scheduler.running:
        said = list(new.token_ids)
        run.step()
    assert old in run.scheduler.running
    assert list(run.scheduler.waiting) == [new, last]
    assert new.token_ids == said  # nothing it has said changes
    assert run.scheduler.num_preemptions == 1
    run.scheduler.remove(old)
    run.step()
    assert new in run.scheduler.running


def test_a_preempted_sequence_computes_its_own_tokens_again_and_goes_on() -> None:
    run = Run(blocks=6, chunk=16)
    old, new = run.add(7), run.add(7, first=100)
    while not run.scheduler.num_preemptions:
        run.step()
    run.scheduler.remove(old)
    said, generated = list(new.token_ids), new.num_generated
    batch = run.step()
    assert batch.sampling == [new]
    assert new.num_generated == generated + 1
    assert new.token_ids[:-1] == said


def test_a_sequence_preempted_by_one_admitted_after_it_leaves_the_batch() -> None:
    run = Run(Door("a"), blocks=6)
    old, new = run.add(7, "late"), run.add(4, first=100)
    run.step()
    run.door.ready.append("late")
    run.step()
    assert run.scheduler.running == [new, old]
    while not run.scheduler.num_preemptions:
        batch = run.step()
    assert decoded(batch) == [old]


def test_who_is_preempted_and_comes_back_within_a_step_is_in_it_once() -> None:
    run = Run(Door("a", "b", "c"), blocks=100, max_batch=16, chunk=200)
    busiest = [run.add(4, "c", first=100 * number) for number in range(4)]
    back = busiest[-1]  # chosen from by the host, so read before it goes on
    back.request = replace(back.request, params=SamplingParams(logprobs=1))
    for number in range(2):
        run.add(4, "a", first=1000 + 100 * number)
    large = run.add(60, "a", first=2000)
    large.arrival = float("inf")
    run.step()
    growing = [run.add(2, "b", first=3000 + 100 * number) for number in range(3)]
    run.step()
    first, _ = run.scheduler.next(), run.scheduler.next()
    run.scheduler.settle(first, range(5000, 5000 + len(first.sampling)))
    run.pool.allocate(run.pool.num_free)
    batch = run.scheduler.next()  # those that grow take two sequences' blocks
    assert run.scheduler.num_preemptions == 2
    assert set(growing) <= set(decoded(batch))
    assert large in run.scheduler.waiting
    assert back in run.scheduler.running
    assert len({chunk.sequence for chunk in batch.chunks}) == len(batch.chunks)


@pytest.mark.parametrize("blocks", [16, 20, 40])
def test_whoever_is_admitted_is_not_put_back_before_it_was_worth_it(blocks: int) -> None:
    run = Run(blocks=blocks, chunk=64)
    lengths = {run.add(12, first=100 * n): (4, 40, 16)[n % 3] for n in range(24)}
    running: set[Sequence] = set()
    since = num_preemptions = 0  # steps since anybody was admitted
    while run.scheduler.has_work:
        run.step()
        if num_preemptions != run.scheduler.num_preemptions:
            assert since >= SIZE
            num_preemptions = run.scheduler.num_preemptions
        since = 0 if set(run.scheduler.running) - running else since + 1
        for sequence in list(run.scheduler.running):
            if sequence.num_generated >= lengths[sequence]:
                run.scheduler.remove(sequence)
        running = set(run.scheduler.running)
    assert num_preemptions  # or this would have shown nothing


def test_the_oldest_always_gets_to_its_end() -> None:
    run = Run(blocks=4)
    sequences = [run.add(3, first=10 * n) for n in range(6)]
    order = []
    for _ in range(500):
        run.step()
        for sequence in list(run.scheduler.running):
            if sequence.num_generated >= 10:
                order.append(sequence)
                run.scheduler.remove(sequence)
    assert order == sequences


def test_a_known_prefix_is_not_computed_again() -> None:
    run = Run()
    run.add(11)
    run.step()
    run.step()
    second = run.add(11)
    assert prefilled(run.step()) == [(second, 3)]
    assert (second.num_cached, run.scheduler.num_prefix_hits) == (8, 8)


def test_a_prompt_that_would_get_nothing_of_a_step_waits_for_what_others_compute() -> None:
    run = Run()
    twin, other, stranger = run.add(8, "a"), run.add(12, "a"), run.add(8, "b")
    for prompt, num_tokens in ((twin, 8), (stranger, 8), (other, 4)):
        assert prefilled(run.step()) == [(prompt, num_tokens)]
        assert run.scheduler.running[-1] is prompt
    assert other.num_cached == 8


def test_a_sequence_that_comes_back_does_not_count_its_own_blocks_as_found() -> None:
    run = Run(blocks=8, chunk=1)
    old, new = run.add(7), run.add(16, first=100)
    while not run.scheduler.num_preemptions:
        run.step()
    assert new.num_generated == 0  # it was put back in the middle of its prompt
    run.scheduler.remove(old)
    run.step()
    assert new.num_computed > SIZE
    assert (new.num_cached, run.scheduler.num_prefix_hits) == (0, 0)


def test_at_least_one_token_is_computed_of_a_prompt_known_in_full() -> None:
    run = Run()
    run.add(8)
    run.step()
    second = run.add(8)
    assert prefilled(run.step()) == [(second, 4)]


@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("a", None), (None, "a")])
def test_prefixes_of_other_weights_are_not_shared(one: str | None, other: str | None) -> None:
    run = Run(chunk=20)
    run.add(8, one)
    run.step()
    second = run.add(8, other)
    assert prefilled(run.step()) == [(second, 8)]


def test_prefixes_of_another_scope_are_not_shared() -> None:
    run = Run()
    run.add(8, "a", scope="one")
    run.step()
    other = run.add(8, "a", scope="other")
    assert prefilled(run.step()) == [(other, 8)]
    same = run.add(8, "a", scope="one")
    assert prefilled(run.step()) == [(same, 4)]


@pytest.mark.parametrize("state", ["decoding", "prefilling", "waiting", "loading"])
def test_a_sequence_can_be_taken_out_in_any_state(state: str) -> None:
    run = Run(max_batch=2)
    sequences = {"decoding": run.add(2, "a")}
    run.step()
    sequences["prefilling"] = run.add(20, "a", first=100)
    sequences["waiting"] = run.add(2, "b", first=200)
    sequences["loading"] = run.add(2, "late", first=300)
    run.step()
    run.scheduler.remove(sequences[state])
    run.check()
    for _ in range(5):
        assert sequences[state] not in [chunk.sequence for chunk in run.step().chunks]
    run.scheduler.remove(sequences[state])  # once more is no harm


def test_a_preempted_sequence_can_be_taken_out() -> None:
    run = Run(blocks=6)
    old, new = run.add(7), run.add(7, "a", first=100)
    while not run.scheduler.num_preemptions:
        run.step()
    run.scheduler.remove(new)
    run.check()
    assert run.scheduler.running == [old]
    assert not run.scheduler.waiting


@given(
    actions=st.lists(
        st.one_of(
            st.tuples(st.integers(1, 14), st.sampled_from([None, "a", "b", "late"])),
            st.integers(0, 9),  # take that one out
            st.none(),  # a step
        ),
        max_size=60,
    ),
    blocks=st.integers(5, 12),
    chunk=st.integers(1, 9),
    max_batch=st.integers(1, 4),
)
def test_whatever_happens_nothing_leaks(
    actions: list[tuple[int, str | None] | int | None], blocks: int, chunk: int, max_batch: int
) -> None:
    run = Run(blocks=blocks, chunk=chunk, max_batch=max_batch)
    alive: list[Sequence] = []
    for action in actions:
        if isinstance(action, tuple):
            alive.append(run.add(*action))
        elif action is not None and action < len(alive):
            run.scheduler.remove(alive.pop(action))
        for sequence in run.step().sampling:
            if sequence.num_tokens >= 15:
                run.scheduler.remove(sequence)
                alive.remove(sequence)
    for sequence in alive:
        run.scheduler.remove(sequence)
    run.check()
    assert not run.scheduler.has_work
    assert run.pool.num_free == run.pool.num_usable
