"""Answers in the shape of /v1/chat/completions, whole and in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.engine.request import GenerationDelta, TokenLogprob

from .answers import Answer, Usage, finite
from .chunks import TextChunks, encode_chunk, last_chunk
from .documents.chat import ChatAnswer, ChatChoice, ChatLogprobs, ChatToken, ScoredToken
from .job import Job
from .voice import Voice, whole_message


class ChatFormat:
    """Renders one Job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._voices: dict[int, Voice] = {}  # by choice
        self._texts = TextChunks()
        tells_more = job.body.num_logprobs is not None or job.body.return_token_ids
        self._is_plain = job.toolbox is None and not tells_more

    async def whole(self, answers: list[Answer], usage: Usage) -> ChatAnswer:
        """The `chat.completion` object."""
        response: ChatAnswer = {
            "id": self._job.id,
            "object": "chat.completion",
            "created": self._job.created,
            "model": self._job.model.name,
            "system_fingerprint": self._job.model.system_fingerprint,
            "choices": [self._choice(index, answer) for index, answer in enumerate(answers)],
            "usage": usage,
        }
        if self._job.body.return_token_ids:
            response["prompt_token_ids"] = list(self._job.sequences[0].prompt_token_ids)
        return response

    def opening(self) -> bytes:
        """Chunks before any token: each choice says whose turn it is."""
        chunks = [
            self._chunk(index, {"role": "assistant", "content": ""})
            for index in range(self._job.body.num_choices)
        ]
        if self._job.body.return_token_ids:
            chunks[0]["prompt_token_ids"] = list(self._job.sequences[0].prompt_token_ids)
        return b"".join(map(encode_chunk, chunks))

    def chunks(self, index: int, delta: GenerationDelta) -> bytes:
        """A content chunk if the delta has any, then a finish chunk if it is the last."""
        if self._is_plain and delta.finish_reason is None:
            return self._said(index, delta.text) if delta.text else b""
        return b"".join(map(encode_chunk, self._chunks(index, delta)))

    async def closing(self, usage: Usage) -> bytes:
        return last_chunk(self._head(), usage, wants_usage=self._job.body.wants_usage)

    def _said(self, index: int, text: str) -> bytes:
        return self._texts.of(index, text, lambda text: self._chunk(index, {"content": text}))

    def _chunks(self, index: int, delta: GenerationDelta) -> list[dict[str, Any]]:
        voice = self._voice(index)
        said = voice.read(delta.text, is_last=delta.finish_reason is not None)
        if not said and (delta.logprobs or (delta.token_ids and self._job.body.return_token_ids)):
            said = [{"content": ""}]  # what tokens are told with
        chunks = [self._chunk(index, part) for part in said]
        if chunks:
            choice = chunks[0]["choices"][0]
            choice["logprobs"] = self._logprobs(delta.logprobs)
            if self._job.body.return_token_ids:
                choice["token_ids"] = list(delta.token_ids)
        if delta.finish_reason is not None:
            chunk = self._chunk(index, {})
            chunk["choices"][0]["finish_reason"] = voice.ending(delta.finish_reason)
            chunk["choices"][0]["stop_reason"] = delta.stop_reason
            chunks.append(chunk)
        return chunks

    def _head(self) -> dict[str, Any]:
        return {
            "id": self._job.id,
            "object": "chat.completion.chunk",
            "created": self._job.created,
            "model": self._job.model.name,
            "system_fingerprint": self._job.model.system_fingerprint,
        }

    def _choice(self, index: int, answer: Answer) -> ChatChoice:
        voice = self._voice(index)
        choice: ChatChoice = {
            "index": index,
            "message": whole_message(voice.read(answer.text, is_last=True)),
            "logprobs": self._logprobs(answer.logprobs),
            "finish_reason": voice.ending(answer.finish_reason),
            "stop_reason": answer.stop_reason,
        }
        if self._job.body.return_token_ids:
            choice["token_ids"] = answer.token_ids
        return choice

    def _voice(self, index: int) -> Voice:
        return self._voices.setdefault(index, Voice(self._job.toolbox))

    def _chunk(self, index: int, delta: dict[str, Any]) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        chunk = {**self._head(), "choices": [choice]}
        if self._job.body.wants_usage:
            chunk["usage"] = None  # OpenAI's: present on every chunk, filled on the last
        return chunk

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> ChatLogprobs | None:
        if self._job.body.num_logprobs is None:
            return None
        return {"content": [_token(token) for token in tokens], "refusal": None}


def _token(token: TokenLogprob) -> ChatToken:
    alternatives = [_scored(text, logprob) for _, text, logprob in token.top]
    return {**_scored(token.text, token.logprob), "top_logprobs": alternatives}


def _scored(text: str, logprob: float) -> ScoredToken:
    # A token that is part of a character has no text of its own, so its bytes are not known.
    as_bytes = None if "\ufffd" in text else list(text.encode())
    return {"token": text, "logprob": finite(logprob), "bytes": as_bytes}
