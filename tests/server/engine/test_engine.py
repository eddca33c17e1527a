"""What one sequence gets: its text, its end and why, its counts; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from server.errors import (
    AdapterLoadError,
    ContextLengthExceeded,
    InvalidRequest,
    NonFiniteLogits,
    QueueFull,
)
from server.residency import tenant
from tests.support.serving import Driver, make_engine

EOS = 257
PROMPT = tuple(range(40, 60))


@pytest.fixture(scope="module")
def driver(tiny_base: Path, tiny_adapters: dict[str, Path]) -> Driver:
    return Driver(make_engine(tiny_base, tiny_adapters, max_batch=8, max_waiting=4))


def say(driver: Driver, text: str, **params: Any) -> str:
    """Have the engine say `text`, one byte a token, over and over; the request's id."""
    script = [*driver.engine._deltas.tokenizer.encode(text)] * 50  # type: ignore[attr-defined]
    sampler = driver.engine._executor.sampler  # type: ignore[attr-defined]
    sample = sampler.sample

    def scripted(logits: Any, sequences: Any) -> Any:
        for row, sequence in enumerate(sequences):
            logits[row, script[sequence.num_generated]] = 1e9
        return sample(logits, sequences)

    sampler.sample = scripted
    try:
        request_id = driver.submit(PROMPT, **params)
        driver.run()
    finally:
        sampler.sample = sample
    return request_id


def ending(driver: Driver, request_id: str) -> tuple[str, str | None, str | int | None]:
    last = driver.deltas[request_id][-1]
    return driver.text(request_id), last.finish_reason, last.stop_reason


def test_it_ends_at_the_limit(driver: Driver) -> None:
    request_id = say(driver, "hello", max_tokens=3)
    assert ending(driver, request_id) == ("hel", "length", None)
    assert driver.deltas[request_id][-1].num_completion_tokens == 3


def test_it_ends_at_a_stop_string_and_names_it(driver: Driver) -> None:
    request_id = say(driver, "one, two", stop=("wo", ", t"), max_tokens=50)
    assert ending(driver, request_id) == ("one", "stop", ", t")


def test_no_stop_string_ends_it_before_the_minimum_length(driver: Driver) -> None:
    params: dict[str, Any] = {"stop": ("b",), "max_tokens": 50}
    assert ending(driver, say(driver, "abab", min_tokens=1, **params)) == ("a", "stop", "b")
    assert ending(driver, say(driver, "abab", min_tokens=2, **params)) == ("aba", "stop", "b")
    request_id = say(driver, "abab", min_tokens=5, stop=("b",), max_tokens=5)
    assert ending(driver, request_id) == ("ababa", "length", None)


def test_it_ends_at_a_stop_token_and_names_it(driver: Driver) -> None:
    token_id = driver.engine._deltas.tokenizer.encode("t")[0]  # type: ignore[attr-defined]
    request_id = say(driver, "one two", stop_token_ids=(token_id,), max_tokens=50)
    assert ending(driver, request_id) == ("one ", "stop", token_id)


def test_it_ends_at_the_end_of_sequence_unless_that_is_ignored(driver: Driver) -> None:
    ends = say(driver, "ab</s>cd", ignore_eos=False, max_tokens=50)
    assert ending(driver, ends) == ("ab", "stop", None)
    goes_on = say(driver, "ab</s>cd", ignore_eos=True, max_tokens=5)
    assert ending(driver, goes_on) == ("abcd", "length", None)


def test_what_was_held_back_comes_with_the_end(driver: Driver) -> None:
    request_id = say(driver, "ab<", stop=("</x>",), max_tokens=3)
    assert ending(driver, request_id) == ("ab<", "length", None)


def test_a_stop_string_found_at_the_very_end_is_the_reason(driver: Driver) -> None:
    decode = driver.engine._deltas.tokenizer.decode
    tokenizer: Any = driver.engine._deltas.tokenizer
    tokenizer.decode = lambda ids: decode(ids).replace(".", ".\ufffd")  # half a character more
    try:
        request_id = say(driver, "a.", stop=(".",), max_tokens=2)
    finally:
        tokenizer.decode = decode
    assert ending(driver, request_id) == ("a", "stop", ".")


def test_log_probabilities_name_their_tokens(driver: Driver) -> None:
    request_id = say(driver, "hi", logprobs=2, max_tokens=2)
    first = driver.deltas[request_id][0].logprobs[0]
    assert (first.text, first.top[0][:2]) == ("h", (first.token_id, "h"))
    assert len(first.top) == 2
    assert first.logprob == pytest.approx(0.0)


def test_tokens_are_counted(driver: Driver) -> None:
    prompt = PROMPT[::-1] * 2
    first = driver.submit(prompt)
    driver.run()
    again = driver.submit(prompt)
    driver.run()
    last = driver.deltas[first][-1]
    assert (last.num_prompt_tokens, last.num_cached_tokens) == (40, 0)
    assert driver.deltas[again][-1].num_cached_tokens == 32
    assert driver.tokens(first) == driver.tokens(again)


@pytest.mark.parametrize("name", [None, "a"])
def test_prompt_and_answer_may_fill_the_context_but_no_more(
    name: str | None, driver: Driver
) -> None:
    context = driver.engine.max_context
    request_id = driver.submit(PROMPT, name, max_tokens=context - len(PROMPT))
    driver.run()
    assert len(driver.tokens(request_id)) == context - len(PROMPT)
    with pytest.raises(ContextLengthExceeded, match=rf"20 tokens.*{context}"):
        driver.submit(PROMPT, name, max_tokens=context - len(PROMPT) + 1)


@pytest.mark.parametrize(
    ("prompt", "params", "param"),
    [
        ((), {}, "prompt"),
        ((1, 320), {}, "prompt"),
        ((-1, 1), {}, "prompt"),
        (PROMPT, {"logit_bias": {320: 1.0}}, "logit_bias"),
        (PROMPT, {"stop_token_ids": (320,)}, "stop_token_ids"),
    ],
)
def test_tokens_that_the_base_does_not_have_are_refused(
    prompt: tuple[int, ...], params: dict[str, Any], param: str, driver: Driver
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        driver.submit(prompt, **params)
    assert caught.value.param == param
    driver.engine.check_idle()


def test_a_burst_may_fill_batch_and_queue_but_no_more(driver: Driver) -> None:
    ids = [driver.submit(PROMPT, max_tokens=2) for _ in range(8 + 4)]
    with pytest.raises(QueueFull, match="8 requests may run and 4 wait") as caught:
        driver.submit(PROMPT)
    assert caught.value.retry_after
    driver.step()
    with pytest.raises(QueueFull):
        driver.submit(PROMPT)
    driver.run()
    assert all(len(driver.tokens(request_id)) == 2 for request_id in ids)
    driver.engine.check_idle()


def test_a_failed_adapter_ends_its_own_sequences_only(driver: Driver) -> None:
    lost = [driver.submit(PROMPT, "missing") for _ in range(2)]
    kept = driver.submit(PROMPT, "a", max_tokens=9)
    driver.run()
    for request_id in lost:
        assert isinstance(driver.errors[request_id], AdapterLoadError)
    assert len(driver.tokens(kept)) == 9
    driver.engine.check_idle()


def test_a_sequence_whose_logits_are_not_finite_ends_alone_and_leaves_nothing(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = driver.submit(PROMPT * 2, "a", max_tokens=9)
    kept = driver.submit(PROMPT, "a", max_tokens=9)
    sampler = driver.engine._executor.sampler  # type: ignore[attr-defined]
    sample = sampler.sample

    def spoilt(logits: Any, sequences: Any) -> Any:
        for row, sequence in enumerate(sequences):
            if sequence.request.request_id == lost and sequence.num_generated == 3:
                logits[row, 100] = torch.nan
        return sample(logits, sequences)

    monkeypatch.setattr(sampler, "sample", spoilt)
    driver.run()
    error = driver.errors[lost]
    assert isinstance(error, NonFiniteLogits)
    assert (error.status, error.type) == (500, "server_error")
    assert "NaN or infinite after 3 tokens of a" in error.message
    assert (len(driver.tokens(lost)), len(driver.tokens(kept))) == (3, 9)
    driver.engine.check_idle()
    again = driver.submit(PROMPT * 2, "a", max_tokens=9)
    driver.run()
    assert driver.deltas[again][-1].num_cached_tokens <= 16  # what `kept` has computed as well
    assert len(driver.tokens(again)) == 9


def test_an_adapter_that_only_aborted_requests_wanted_puts_nobody_out(
    tiny_base: Path, tiny_adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant, "MIN_STAY", 0.0)
    driver = Driver(make_engine(tiny_base, tiny_adapters, max_slots=1))
    driver.submit(PROMPT, "a", max_tokens=2)
    driver.run()
    waits = [driver.submit(PROMPT, "b", max_tokens=2) for _ in range(2)]
    driver.step()
    for request_id in waits:
        driver.engine.abort(request_id)
    driver.run()
    stats = driver.engine.stats()
    assert [(r.label, r.level) for r in stats.resident] == [("a", "slot")]
    assert stats.num_adapter_evictions == 0


def test_aborting_frees_everything_at_once_and_twice_is_no_harm(driver: Driver) -> None:
    ids = [driver.submit(PROMPT, name, max_tokens=50) for name in ("a", None, "b")]
    driver.step()
    for request_id in [*ids, *ids, "unknown"]:
        driver.engine.abort(request_id)
    driver.engine.check_idle()
    driver.run()
    assert all(resident.num_running == 0 for resident in driver.engine.stats().resident)
