"""One sequence's whole answer, put together from its deltas."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from server.engine.request import FinishReason, GenerationDelta, TokenLogprob
from server.errors import ServingError, Unavailable

from .documents.usage import Usage as Usage

WholeReason = Literal["stop", "length"]


@dataclass
class Answer:
    """Grows delta by delta until `finish_reason` is there."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_completion_tokens: int = 0

    def add(self, delta: GenerationDelta) -> None:
        self.text += delta.text
        self.token_ids.extend(delta.token_ids)
        self.logprobs.extend(delta.logprobs)
        self.prompt_logprobs.extend(delta.prompt_logprobs)
        self.count(delta)

    def count(self, delta: GenerationDelta) -> None:
        """Keep only what the delta says about lengths and the end, not its text."""
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.stop_reason = delta.stop_reason if delta.finish_reason else self.stop_reason
        self.num_prompt_tokens = delta.num_prompt_tokens or self.num_prompt_tokens
        self.num_cached_tokens = delta.num_cached_tokens or self.num_cached_tokens
        self.num_completion_tokens = delta.num_completion_tokens or self.num_completion_tokens

    @property
    def mean_logprob(self) -> float:
        """What the best of several is chosen by: OpenAI's log probability per token."""
        values = [token.logprob for token in self.logprobs]
        return sum(values) / max(1, len(values))


def check_ending(delta: GenerationDelta) -> None:
    """Raise when the engine gave the sequence up: no OpenAI finish reason says that."""
    if delta.finish_reason == "abort":
        raise Unavailable("The server stopped this generation before it was finished.")
    if delta.finish_reason == "error":
        raise ServingError("The generation failed. The server's log has the details.")


def said_reason(reason: FinishReason | None) -> WholeReason | None:
    """OpenAI's finish reason: what is none, `check_ending` has raised."""
    assert reason != "abort"
    assert reason != "error"
    return reason


def best(answers: list[Answer], num_candidates: int, num_choices: int) -> list[Answer]:
    """Of each prompt's candidates the most probable, as many as are to be given."""
    if num_candidates == num_choices:
        return answers
    for index, answer in enumerate(answers):  # the first of them has the prompt's
        answer.prompt_logprobs = answers[index - index % num_candidates].prompt_logprobs
    prompts = [answers[at : at + num_candidates] for at in range(0, len(answers), num_candidates)]
    return [
        answer
        for candidates in prompts
        for answer in sorted(candidates, key=lambda one: -one.mean_logprob)[:num_choices]
    ]


def finite(logprob: float) -> float:
    """JSON has no minus infinity; OpenAI writes -9999 for what can never come."""
    return max(logprob, -9999.0)


def usage(answers: list[Answer], num_candidates: int = 1) -> Usage:
    """OpenAI's usage object over all the answers of a request, so many to each prompt.

    A prompt counts once, however many answers there are to it.
    """
    leaders = answers[::num_candidates]
    num_prompt = sum(answer.num_prompt_tokens for answer in leaders)
    num_completion = sum(answer.num_completion_tokens for answer in answers)
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_completion,
        "total_tokens": num_prompt + num_completion,
        "prompt_tokens_details": {
            "cached_tokens": sum(answer.num_cached_tokens for answer in leaders)
        },
    }
