"""Answers in the shape of /v1/completions, whole and in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.engine.request import GenerationDelta, TokenLogprob

from .answers import Answer, Usage, finite, said_reason
from .chunks import TextChunks, encode_chunk, last_chunk
from .documents.completion import (
    Completion,
    CompletionChoice,
    CompletionHead,
    CompletionLogprobs,
)
from .job import Echo, Job


class CompletionFormat:
    """Renders one Job. `text_offset` counts characters of each choice's text so far."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._offsets = [0] * len(job.sequences)
        self._scores: dict[int, list[TokenLogprob]] = {}  # of prompts, for their other choices
        self._begun: set[int] = set()
        self._texts = TextChunks()
        self._is_plain = job.body.num_logprobs is None and not job.body.return_token_ids

    async def whole(self, answers: list[Answer], usage: Usage) -> Completion:
        """The `text_completion` object."""
        choices = [self._choice(index, answer) for index, answer in enumerate(answers)]
        return {**self._head(), "choices": choices, "usage": usage}

    def opening(self) -> bytes:
        """Nothing: a completion's first chunk is its first text."""
        return b""

    def chunks(self, index: int, delta: GenerationDelta) -> bytes:
        """One chunk for the delta, finish reason included."""
        if self._is_plain and delta.finish_reason is None and index in self._begun:
            return self._said(index, delta.text)
        return encode_chunk(self._chunk(index, delta))

    async def closing(self, usage: Usage) -> bytes:
        return last_chunk(self._head(), usage, wants_usage=self._job.body.wants_usage)

    def _said(self, index: int, text: str) -> bytes:
        return self._texts.of(index, text, lambda text: self._chunk(index, Answer(text)))

    def _chunk(self, index: int, gain: Answer | GenerationDelta) -> dict[str, Any]:
        chunk = {**self._head(), "choices": [self._choice(index, gain)]}
        if self._job.body.wants_usage:
            chunk["usage"] = None
        return chunk

    def _head(self) -> CompletionHead:
        return {
            "id": self._job.id,
            "object": "text_completion",
            "created": self._job.created,
            "model": self._job.model.name,
            "system_fingerprint": self._job.model.system_fingerprint,
        }

    def _choice(self, index: int, answer: Answer | GenerationDelta) -> CompletionChoice:
        echo = None if index in self._begun else self._job.echo_of(index)
        choice: CompletionChoice = {
            "index": index,
            "text": answer.text if echo is None else echo.text + answer.text,
            "logprobs": self._logprobs(index, answer, echo),
            "finish_reason": said_reason(answer.finish_reason),
            "stop_reason": answer.stop_reason,
        }
        if self._job.body.return_token_ids:
            choice["token_ids"] = list(answer.token_ids)
            if index not in self._begun:
                choice["prompt_token_ids"] = list(self._job.prompt_of(index))
        self._begun.add(index)
        return choice

    def _logprobs(
        self, index: int, answer: Answer | GenerationDelta, echo: Echo | None
    ) -> CompletionLogprobs | None:
        if self._job.body.num_logprobs is None:
            return None
        scored = list(answer.logprobs)
        if echo is not None:
            scored = [*self._prompt_scores(index, answer), *scored]
        tokens = [token.text for token in scored]
        values: list[float | None] = [finite(token.logprob) for token in scored]
        top: list[dict[str, float] | None] = [_alternatives(token) for token in scored]
        if echo is not None:  # nothing comes before the first token, so it has no probability
            tokens, values, top = [echo.first, *tokens], [None, *values], [None, *top]
        return {
            "tokens": tokens,
            "token_logprobs": values,
            "top_logprobs": top,
            "text_offset": self._place(index, tokens),
        }

    def _prompt_scores(
        self, index: int, answer: Answer | GenerationDelta
    ) -> Sequence[TokenLogprob]:
        """The prompt is scored once, with the first of its answers."""
        prompt = index // self._job.body.num_choices
        return self._scores.setdefault(prompt, list(answer.prompt_logprobs))

    def _place(self, index: int, tokens: list[str]) -> list[int]:
        """Where in the choice's text each token begins, in characters."""
        offsets = []
        for token in tokens:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(token)
        return offsets


def _alternatives(token: TokenLogprob) -> dict[str, float]:
    """Text → log-probability; the chosen token is always among them, as in OpenAI's answers."""
    scored = {text: finite(logprob) for _, text, logprob in token.top}
    scored.setdefault(token.text, finite(token.logprob))
    return scored
