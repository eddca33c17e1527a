"""A running engine as the host on which receipts are replayed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Protocol

from registry.bases import BaseRecord
from registry.hats import Hat
from registry.replay import Step
from registry.versions import Version
from server.engine.request import (
    AdapterRef,
    GenerationDelta,
    GenerationRequest,
    SamplingParams,
)

from .rendering import Renderer, Tokenizer

TOP_K = 5  # what receipts record
AT_ONCE = 128  # questions in the engine at a time: its queue is bounded


class Engine(Protocol):
    """What a replay needs of the engine."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]: ...


class Base(Protocol):
    """What a replay needs of the base."""

    @property
    def record(self) -> BaseRecord: ...

    @property
    def tokenizer(self) -> Tokenizer: ...


class EngineHost:
    """Satisfies `registry.hosts.AnsweringHost`. They block: call from another thread."""

    def __init__(self, engine: Engine, base: Base, *, activations: str) -> None:
        self._engine = engine
        self._renderer = Renderer(base.tokenizer)
        self.fingerprint = base.record.fingerprint
        self.activations = activations

    def prompt_ids(self, hat: Hat, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        return self._renderer.prompt_ids(hat, messages)

    def greedy(self, version: Version, prompt: Sequence[int], num_tokens: int) -> list[Step]:
        """Raises a `ServingError` when the engine cannot run the adapter."""
        # A receipt's last token may be the end of the sequence: it is compared like any other.
        params = SamplingParams(
            max_tokens=num_tokens, temperature=0.0, ignore_eos=True, logprobs=TOP_K
        )
        return asyncio.run(self._collect(_request(version, prompt, params)))

    def answers(
        self,
        version: Version | None,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int,
        stop: Sequence[str],
    ) -> list[str]:
        """Raises a `ServingError` when the engine cannot run the adapter or take a prompt."""
        params = SamplingParams(max_tokens=max_tokens, temperature=0.0, stop=tuple(stop))
        return asyncio.run(self._texts([_request(version, each, params) for each in prompts]))

    async def _texts(self, requests: Sequence[GenerationRequest]) -> list[str]:
        turns = asyncio.Semaphore(AT_ONCE)

        async def text(request: GenerationRequest) -> str:
            async with turns:
                return "".join([delta.text async for delta in self._engine.generate(request)])

        return list(await asyncio.gather(*map(text, requests)))

    async def _collect(self, request: GenerationRequest) -> list[Step]:
        return [
            Step(
                chosen.token_id,
                {
                    chosen.token_id: chosen.logprob,
                    **{token_id: logprob for token_id, _, logprob in chosen.top},
                },
            )
            async for delta in self._engine.generate(request)
            for chosen in delta.logprobs
        ]


def _request(
    version: Version | None, prompt: Sequence[int], params: SamplingParams
) -> GenerationRequest:
    adapter = None if version is None else AdapterRef(version.digest, version.ref)
    return GenerationRequest(f"host-{secrets.token_hex(12)}", tuple(prompt), params, adapter)
