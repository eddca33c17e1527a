"""Each filter and penalty against a plain re-computation; draws that are a sequence's own."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from server.engine.detokenizer import Detokenizer
from server.engine.request import GenerationRequest, SamplingParams
from server.engine.sampler import Sampler
from server.engine.sequence import Sequence
from server.kernels.sampling import (
    CANDIDATES,
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize,
)

EOS = 3
rows = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=24).map(torch.tensor)


def kept(logits: torch.Tensor) -> set[int]:
    return set(torch.isfinite(logits).nonzero().flatten().tolist())


@given(logits=rows, k=st.integers(1, 30))
def test_top_k_keeps_the_k_largest_and_ties_with_the_last(logits: torch.Tensor, k: int) -> None:
    smallest = sorted(logits.tolist(), reverse=True)[:k][-1]
    assert kept(keep_top_k(logits, k)) == {
        i for i, v in enumerate(logits.tolist()) if v >= smallest
    }


def nucleus(logits: torch.Tensor, p: float) -> float:
    """How much probability the kept tokens have, and that they are the most probable ones."""
    probabilities = logits.double().softmax(-1)
    stay = kept(keep_top_p(logits, p))
    left = set(range(len(logits))) - stay
    assert min(probabilities[list(stay)]) >= max(probabilities[list(left)], default=0.0) - 1e-7
    smallest = float(min(probabilities[list(stay)]))
    total = float(probabilities[list(stay)].sum())
    assert total >= p - 1e-6
    assert total - smallest < p + 1e-6  # without the last one it is too little
    return total


@given(logits=rows, p=st.floats(0.01, 0.999))
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits: torch.Tensor, p: float) -> None:
    nucleus(logits, p)


def test_top_p_keeps_a_nucleus_of_more_tokens_than_are_looked_at_first() -> None:
    logits = torch.randn(4 * CANDIDATES, generator=torch.Generator().manual_seed(1)) / 10
    nucleus(logits, 0.9)
    assert len(kept(keep_top_p(logits, 0.9))) > CANDIDATES


def test_top_p_of_almost_nothing_keeps_the_most_probable() -> None:
    assert kept(keep_top_p(torch.tensor([1.0, 3.0, 2.0]), 1e-9)) == {1}


@given(logits=rows, p=st.floats(0.01, 1))
def test_min_p_keeps_what_is_near_the_most_probable(logits: torch.Tensor, p: float) -> None:
    probabilities = logits.softmax(-1)
    floor = p * float(probabilities.max())
    stay = kept(keep_min_p(logits, p))
    for index, probability in enumerate(probabilities.tolist()):
        if not math.isclose(probability, floor, rel_tol=1e-5):
            assert (index in stay) == (probability > floor)
    assert int(logits.argmax()) in stay


@given(
    logits=st.lists(st.floats(-8, 8, width=32), min_size=6, max_size=6),
    prompt=st.lists(st.integers(0, 5), min_size=1, max_size=6),
    generated=st.lists(st.integers(0, 5), max_size=6),
    presence=st.floats(-2, 2),
    frequency=st.floats(-2, 2),
    repetition=st.floats(0.5, 2),
)
def test_penalties_are_those_of_openai_and_of_keskar(
    logits: list[float],
    prompt: list[int],
    generated: list[int],
    presence: float,
    frequency: float,
    repetition: float,
) -> None:
    expected = []
    for token, value in enumerate(logits):
        if token in prompt + generated:
            value = value / repetition if value > 0 else value * repetition
        value -= frequency * generated.count(token) + presence * (token in generated)
        expected.append(value)
    penalized = penalize(
        torch.tensor(logits),
        torch.tensor(prompt),
        torch.tensor(generated, dtype=torch.int64),
        presence=presence,
        frequency=frequency,
        repetition=repetition,
    )
    assert penalized.tolist() == pytest.approx(expected, abs=1e-4)


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -torch.inf])
    generator = torch.Generator().manual_seed(5)
    counts = torch.zeros(4)
    for _ in range(4000):
        counts[int(draw(logits, generator))] += 1
    assert (counts / 4000).tolist() == pytest.approx(logits.softmax(-1).tolist(), abs=0.03)


def sequence(*generated: int, **params: object) -> Sequence:
    """One that has said `generated` after the prompt 0, 1."""
    request = GenerationRequest("request", (0, 1), SamplingParams(**params))
    made = Sequence(request, Detokenizer(lambda _: ""))
    made.token_ids += generated
    return made


def choose(logits: list[float], *generated: int, **params: object) -> int:
    sampler = Sampler(frozenset({EOS}))
    [sampled] = sampler.sample(torch.tensor([logits]), [sequence(*generated, **params)])
    assert sampled is not None
    return sampled.token_id


LOGITS = [0.0, 1.0, 3.0, 4.0, 2.0]  # the end of the sequence is the most probable


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"temperature": 0.0}, 3),
        ({"temperature": 0.0, "logit_bias": {4: 5.0}}, 4),
        ({"temperature": 0.0, "logit_bias": {3: -100.0}}, 2),
        ({"temperature": 0.0, "min_tokens": 1}, 2),
        ({"temperature": 0.0, "min_tokens": 1, "stop_token_ids": (2,)}, 4),
        ({"temperature": 1.0, "top_k": 1}, 3),
        ({"temperature": 1.0, "top_p": 1e-6}, 3),
        ({"temperature": 1.0, "min_p": 1.0}, 3),
        ({"temperature": 1e-6}, 3),
        ({"temperature": 1e-40}, 3),
    ],
)
def test_parameters_that_leave_one_choice(params: dict[str, object], expected: int) -> None:
    assert {choose(LOGITS, **params) for _ in range(5)} == {expected}


def test_the_minimum_length_ends() -> None:
    assert choose(LOGITS, 2, temperature=0.0, min_tokens=2) == 2
    assert choose(LOGITS, 2, 2, temperature=0.0, min_tokens=2) == 3


def test_penalties_hold_for_greedy_decoding() -> None:
    assert choose(LOGITS, 3, temperature=0.0, presence_penalty=2.0) == 2
    assert choose(LOGITS, 3, 3, temperature=0.0, frequency_penalty=0.6) == 2
    assert choose(LOGITS, 3, temperature=0.0, repetition_penalty=2.0) == 2


def answer(company: int, place: int, seed: int | None = 7) -> list[int]:
    """Ten tokens of a seeded sequence that stands at `place` among unseeded ones."""
    sampler, logits = Sampler(frozenset()), torch.linspace(0, 2, 50)
    own = sequence(temperature=1.0, seed=seed, top_p=0.95)
    others = [sequence(temperature=1.0) for _ in range(company)]
    batch = [*others[:place], own, *others[place:]]
    return [
        sampler.sample(logits.expand(company + 1, -1), batch)[place].token_id for _ in range(10)
    ]


def test_a_seed_draws_the_same_in_any_company() -> None:
    alone = answer(0, 0)
    assert len(set(alone)) > 1
    assert answer(0, 0) == answer(5, 2) == answer(9, 9) == alone
    assert answer(0, 0, seed=8) != alone


def test_log_probabilities_are_the_models_own() -> None:
    logits = torch.tensor([LOGITS])
    sampled = Sampler(frozenset()).sample(
        logits, [sequence(temperature=2.0, top_k=1, logit_bias={4: 9.0}, logprobs=3)]
    )[0]
    expected = logits[0].log_softmax(-1)
    assert sampled.token_id == 4
    assert sampled.logprob == pytest.approx(float(expected[4]))
    assert [token for token, _ in sampled.top] == [3, 2, 4]
    assert [value for _, value in sampled.top] == pytest.approx(expected[[3, 2, 4]].tolist())


def test_the_chosen_log_probability_comes_without_alternatives_too() -> None:
    sampled = Sampler(frozenset()).sample(
        torch.tensor([LOGITS]), [sequence(temperature=0.0, logprobs=0)]
    )[0]
    assert sampled.logprob is not None
    assert sampled.top == ()


def test_sequences_of_one_batch_keep_their_own_parameters() -> None:
    batch = [
        sequence(temperature=0.0),
        sequence(temperature=0.0, logit_bias={0: 50.0}),
        sequence(temperature=0.0, min_tokens=5, logprobs=1),
    ]
    sampled = Sampler(frozenset({EOS})).sample(torch.tensor([LOGITS] * 3), batch)
    assert [choice.token_id for choice in sampled] == [3, 0, 2]
    assert [choice.logprob is None for choice in sampled] == [True, True, False]


@pytest.mark.parametrize("params", [{"temperature": 0.0}, {"temperature": 1.0, "logprobs": 1}])
def test_logits_that_are_not_finite_choose_nothing_in_their_own_row(
    params: dict[str, object],
) -> None:
    unsound = [
        [0.0, torch.nan, 1.0],
        [torch.nan] * 3,
        [0.0, torch.inf, 1.0],
        [-torch.inf] * 3,
    ]
    sound = [0.0, 50.0, -torch.inf]  # masked, not broken
    logits = torch.tensor([*unsound, sound])
    sampled = Sampler(frozenset()).sample(logits, [sequence(**params) for _ in logits])
    assert sampled[:4] == [None] * 4
    assert sampled[4] is not None
    assert sampled[4].token_id == 1
