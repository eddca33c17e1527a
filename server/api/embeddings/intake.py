"""From a parsed body to the sequences whose prompts the engine will compute."""

from __future__ import annotations

import secrets
from dataclasses import replace

import anyio.to_thread

from server.api import limits
from server.api.model_choice import ModelChoice
from server.api.permission import prefix_scope
from server.api.ports import Base, Engine
from server.api.sampling import check_token_id
from server.api.wishes import Wishes
from server.engine.request import GenerationRequest, SamplingParams
from server.errors import ContextLengthExceeded, InvalidRequest

from .body import EmbeddingBody
from .job import EmbeddingJob

NOTHING_TO_SAY = SamplingParams(max_tokens=0, temperature=0.0)


class EmbeddingIntake:
    """Resolves the model, makes tokens of the inputs, and checks that each fits the context."""

    def __init__(self, *, engine: Engine, base: Base, choice: ModelChoice) -> None:
        self._engine = engine
        self._base = base
        self._choice = choice

    async def job(self, body: EmbeddingBody, wishes: Wishes) -> EmbeddingJob:
        """Raises InvalidRequest and AdapterNotFound, and their like."""
        self._check(body)
        return await anyio.to_thread.run_sync(self._job, body, wishes)

    def _check(self, body: EmbeddingBody) -> None:
        count, width = len(body.inputs), self._base.record.config["hidden_size"]
        if count > limits.MAX_INPUTS:
            raise InvalidRequest(
                f"{count} inputs are over the limit of {limits.MAX_INPUTS} in one request.",
                param="input",
            )
        if body.dimensions is not None and body.dimensions > width:
            raise InvalidRequest(
                f"'dimensions' is {body.dimensions}; this base's vectors have {width}.",
                param="dimensions",
            )

    def _job(self, body: EmbeddingBody, wishes: Wishes) -> EmbeddingJob:
        session = wishes.session or body.user or ""
        model = self._choice.choose(
            body.model, replace(wishes, session=session), body.adapters or ()
        )
        job_id = f"embd-{secrets.token_hex(12)}"
        # The engine's own figure counts its KV blocks too; 0 means that it does not say.
        most = self._engine.stats().max_context or self._base.max_context
        sequences = tuple(
            GenerationRequest(
                f"{job_id}-{index}",
                self._tokens(text, index, most),
                NOTHING_TO_SAY,
                model.adapter,
                pooling=body.pooling or "mean",
                prefix_scope=prefix_scope(),
            )
            for index, text in enumerate(body.inputs)
        )
        return EmbeddingJob(model, body, sequences)

    def _tokens(self, text: str | list[int], index: int, most: int) -> tuple[int, ...]:
        tokenizer = self._base.tokenizer
        if isinstance(text, str):
            tokens = tuple(tokenizer.encode_plain(text))
        else:
            tokens = tuple(check_token_id(t, tokenizer.vocab_size, "input") for t in text)
        if not tokens:
            raise InvalidRequest(f"Input {index} comes to no tokens at all.", param="input")
        if len(tokens) > most:
            raise ContextLengthExceeded(
                f"The context is {most} tokens, but input {index} has {len(tokens)}.",
                param="input",
            )
        return tokens
