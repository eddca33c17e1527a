"""Probabilities of a prompt's own tokens, against transformers, however the prompt is cut."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import MistralForCausalLM

from server.engine.request import TokenLogprob
from tests.support.serving import Driver, make_engine

PROMPT = [random.Random(3).randrange(256) for _ in range(90)]


@pytest.fixture(scope="module")
def expected(tiny_base: Path) -> torch.Tensor:
    """Log-probabilities [tokens - 1, vocab] after each token but the last."""
    model = MistralForCausalLM.from_pretrained(tiny_base)
    with torch.inference_mode():
        logits = model(torch.tensor([PROMPT])).logits[0, :-1]
    return logits.log_softmax(-1)


@pytest.fixture(params=[False, True], ids=["plain", "device"])
def driver(tiny_base: Path, request: pytest.FixtureRequest) -> Driver:
    # NF4 would be another model than the expected one.
    return Driver(make_engine(tiny_base, chunk=24, fused=request.param, weights="dense"))


def scores(driver: Driver, request_id: str) -> tuple[TokenLogprob, ...]:
    first, *others = driver.deltas[request_id]
    assert not any(delta.prompt_logprobs for delta in others)
    return first.prompt_logprobs


def check(found: tuple[TokenLogprob, ...], expected: torch.Tensor, count: int) -> None:
    assert [score.token_id for score in found] == PROMPT[1:]
    for row, score in zip(expected, found, strict=True):
        assert score.logprob == pytest.approx(float(row[score.token_id]), abs=2e-3)
        assert [value for _, _, value in score.top] == pytest.approx(
            row.topk(count).values.tolist(), abs=2e-3
        )


def test_every_token_but_the_first_has_its_probability(
    driver: Driver, expected: torch.Tensor
) -> None:
    others = [driver.submit(PROMPT[:n], max_tokens=5) for n in (3, 40)]
    alone = [driver.submit(PROMPT, max_tokens=3, prompt_logprobs=count) for count in (0, 2)]
    driver.run()
    driver.engine.check_idle()
    check(scores(driver, alone[0]), expected, 0)
    check(scores(driver, alone[1]), expected, 2)
    assert [len(driver.tokens(other)) for other in others] == [5, 5]
    assert not any(scores(driver, other) for other in others)


def test_a_known_prefix_is_scored_all_the_same(driver: Driver, expected: torch.Tensor) -> None:
    said = []
    for count in (None, 1, None):
        request_id = driver.submit(PROMPT, max_tokens=4, prompt_logprobs=count)
        driver.run()
        said.append(driver.tokens(request_id))
        if count is not None:
            check(scores(driver, request_id), expected, 1)
            assert driver.deltas[request_id][0].num_cached_tokens == 0
    assert said[0] == said[1] == said[2]


def test_preempted_prompts_are_scored_once(tiny_base: Path, expected: torch.Tensor) -> None:
    small = make_engine(tiny_base, chunk=24, block_size=4, kv_memory=102 << 10, weights="dense")
    driver = Driver(small)
    ids = [driver.submit(PROMPT, max_tokens=20, prompt_logprobs=0) for _ in range(3)]
    driver.run()
    assert small.stats().num_preemptions > 0
    for request_id in ids:
        check(scores(driver, request_id), expected, 0)


def test_one_token_has_nothing_to_score(driver: Driver) -> None:
    request_id = driver.submit([7], max_tokens=2, prompt_logprobs=3)
    driver.run()
    assert scores(driver, request_id) == ()
