"""One sequence's whole answer, put together from its deltas."""

from __future__ import annotations

from dataclasses import dataclass, field

from server.engine.request import FinishReason, GenerationDelta, TokenLogprob
from server.errors import ServingError, Unavailable


@dataclass
class Answer:
    """Grows delta by delta until `finish_reason` is there."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_completion_tokens: int = 0

    def add(self, delta: GenerationDelta) -> None:
        self.text += delta.text
        self.token_ids.extend(delta.token_ids)
        self.logprobs.extend(delta.logprobs)
        self.count(delta)

    def count(self, delta: GenerationDelta) -> None:
        """Keep only what the delta says about lengths and the end, not its text."""
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.stop_reason = delta.stop_reason if delta.finish_reason else self.stop_reason
        self.num_prompt_tokens = delta.num_prompt_tokens or self.num_prompt_tokens
        self.num_cached_tokens = delta.num_cached_tokens or self.num_cached_tokens
        self.num_completion_tokens = delta.num_completion_tokens or self.num_completion_tokens


def check_ending(delta: GenerationDelta) -> None:
    """Raise when the engine gave the sequence up: no OpenAI finish reason says that."""
    if delta.finish_reason == "abort":
        raise Unavailable("The server stopped this generation before it was finished.")
    if delta.finish_reason == "error":
        raise ServingError("The generation failed. The server's log has the details.")


def finite(logprob: float) -> float:
    """JSON has no minus infinity; OpenAI writes -9999 for what can never come."""
    return max(logprob, -9999.0)


def usage(answers: list[Answer]) -> dict[str, object]:
    """OpenAI's usage object over all the answers of a request."""
    num_prompt = sum(answer.num_prompt_tokens for answer in answers)
    num_completion = sum(answer.num_completion_tokens for answer in answers)
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_completion,
        "total_tokens": num_prompt + num_completion,
        "prompt_tokens_details": {
            "cached_tokens": sum(answer.num_cached_tokens for answer in answers)
        },
    }
