"""From a parsed body to the sequences that the engine will run."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import anyio.to_thread

from registry.errors import TemplateFailed
from server.engine.constraint import Constraint
from server.engine.request import GenerationRequest
from server.errors import AdapterNotServable, InvalidRequest
from server.proof.rendering import prompt_text
from server.settings import ApiSettings
from server.structure import GrammarCompiler

from .chat_body import ChatBody
from .completion_body import CompletionBody
from .model_choice import ModelChoice
from .models import ServedModel
from .parameters import Parameters
from .ports import Base, Engine
from .sampling import TokenBudget, check_token_id, sampling_params
from .structure import HAT_SCHEMA, find_shape
from .wishes import Wishes

COMPLETION_MAX_TOKENS = 16  # what OpenAI documents for /v1/completions


@dataclass(frozen=True)
class Echo:
    """A prompt as an answer repeats it; `first` is its first token's text, which has no score."""

    text: str
    first: str


@dataclass(frozen=True)
class Job:
    """One HTTP request on its way through the engine.

    sequences: for each prompt in turn, as many as the body has candidates. echoes: what each
    prompt's answers begin with, if the body asks for that.
    """

    id: str
    model: ServedModel
    body: Parameters
    sequences: tuple[GenerationRequest, ...]
    echoes: tuple[Echo, ...] = ()
    created: int = field(default_factory=lambda: int(time.time()))  # Unix seconds
    arrived: float = field(default_factory=time.perf_counter)

    def leader_of(self, index: int) -> int:
        """The first sequence of that one's prompt."""
        return index - index % self.body.num_candidates

    def prompt_of(self, choice: int) -> tuple[int, ...]:
        """The tokens that a choice of the answer continues."""
        return self.sequences[self._first(choice)].prompt_token_ids

    def echo_of(self, choice: int) -> Echo | None:
        """What a choice of the answer begins with."""
        return self.echoes[choice // self.body.num_choices] if self.echoes else None

    def _first(self, choice: int) -> int:
        return choice // self.body.num_choices * self.body.num_candidates


class Intake:
    """Resolves the model, renders the prompt with its hat, and checks that it all fits."""

    def __init__(
        self,
        *,
        engine: Engine,
        base: Base,
        choice: ModelChoice,
        grammars: GrammarCompiler,
        settings: ApiSettings,
    ) -> None:
        self._engine = engine
        self._base = base
        self._choice = choice
        self._grammars = grammars
        self._settings = settings

    async def chat(self, body: ChatBody, wishes: Wishes) -> Job:
        """A chat's Job. Raises InvalidRequest and AdapterNotFound, and their like."""
        self._check_count(1, body)
        return await anyio.to_thread.run_sync(self._chat, body, wishes)

    async def completion(self, body: CompletionBody, wishes: Wishes) -> Job:
        """A completion's Job, one sequence per prompt."""
        self._check_count(len(body.prompts), body)
        return await anyio.to_thread.run_sync(self._completion, body, wishes)

    def _check_count(self, num_prompts: int, body: Parameters) -> None:
        most = self._settings.max_prompts
        if num_prompts > most:
            raise InvalidRequest(
                f"{num_prompts} prompts are over this server's limit of {most} in one request.",
                param="prompt",
            )
        count = num_prompts * body.num_candidates
        if count > most:
            param = "n" if body.num_candidates == body.num_choices else "best_of"
            raise InvalidRequest(
                f"'{param}': {count} answers are over this server's limit of {most} in one "
                "request.",
                param=param,
            )

    def _chat(self, body: ChatBody, wishes: Wishes) -> Job:
        model = self._model(body, wishes)
        prompt = self._base.tokenizer.encode(self._render(model, body.turns))
        return self._job(model, body, [tuple(prompt)], kind="chatcmpl")

    def _completion(self, body: CompletionBody, wishes: Wishes) -> Job:
        model = self._model(body, wishes)
        prompts = [
            self._encode_plain(prompt) if isinstance(prompt, str) else self._checked(prompt)
            for prompt in body.prompts
        ]
        job = self._job(model, body, prompts, kind="cmpl")
        if not body.is_echoed:
            return job
        tokenizer = self._base.tokenizer
        texts = [text if isinstance(text, str) else tokenizer.decode(text) for text in body.prompts]
        firsts = [tokenizer.token_text(prompt[0]) for prompt in prompts]
        return replace(job, echoes=tuple(map(Echo, texts, firsts)))

    def _model(self, body: Parameters, wishes: Wishes) -> ServedModel:
        session = wishes.session or body.user or ""
        return self._choice.choose(body.model, replace(wishes, session=session))

    def _render(self, model: ServedModel, turns: Sequence[Mapping[str, Any]]) -> str:
        if (model.hat.chat_template or self._base.tokenizer.chat_template) is None:
            raise InvalidRequest(
                f"'{model.label}' has no chat template. Use /v1/completions.", param="model"
            )
        try:
            return prompt_text(self._base.tokenizer, model.hat, turns)
        except TemplateFailed as error:
            raise InvalidRequest(error.message, param="messages") from error

    def _encode_plain(self, text: str) -> tuple[int, ...]:
        return tuple(self._base.tokenizer.encode_plain(text))

    def _checked(self, token_ids: Sequence[int]) -> tuple[int, ...]:
        vocab_size = self._base.tokenizer.vocab_size
        return tuple(check_token_id(token_id, vocab_size, "prompt") for token_id in token_ids)

    def _job(
        self,
        model: ServedModel,
        body: Parameters,
        prompts: Sequence[tuple[int, ...]],
        *,
        kind: Literal["chatcmpl", "cmpl"],
    ) -> Job:
        job_id = f"{kind}-{secrets.token_hex(12)}"
        constraint = self._constraint(model, body)
        sequences: list[GenerationRequest] = []
        for prompt in prompts:
            first = self._sequence(f"{job_id}-{len(sequences)}", model, body, prompt, constraint)
            sequences.append(first)
            sequences += [
                _sibling(first, f"{job_id}-{len(sequences) + more}", more + 1)
                for more in range(body.num_candidates - 1)
            ]
        return Job(id=job_id, model=model, body=body, sequences=tuple(sequences))

    def _constraint(self, model: ServedModel, body: Parameters) -> Constraint | None:
        shape = find_shape(body, model.hat)
        if shape is None:
            return None
        try:
            return self._grammars.compile(shape)
        except InvalidRequest as error:
            if shape.param != HAT_SCHEMA:
                raise
            raise AdapterNotServable(
                f"The hat of {model.label} has a schema that no grammar can be made of. "
                f"{error.message}",
                param="model",
            ) from error

    def _sequence(
        self,
        request_id: str,
        model: ServedModel,
        body: Parameters,
        prompt: tuple[int, ...],
        constraint: Constraint | None,
    ) -> GenerationRequest:
        if not prompt:
            raise InvalidRequest("The prompt comes to no tokens at all.", param="prompt")
        max_tokens = self._budget(body).max_tokens(
            len(prompt), body.completion_limit, model.hat.sampling.max_tokens
        )
        params = sampling_params(
            body,
            model.hat,
            max_tokens=max(1, max_tokens),  # of 0 the answer shows none
            vocab_size=self._base.tokenizer.vocab_size,
            hat_stops=constraint is None,  # a grammar says itself where the text ends
        )
        return GenerationRequest(request_id, prompt, params, model.adapter, constraint)

    def _budget(self, body: Parameters) -> TokenBudget:
        # The engine's own figure counts its KV blocks too; 0 means that it does not say.
        max_context = self._engine.stats().max_context or self._base.max_context
        is_chat = isinstance(body, ChatBody)
        return TokenBudget(
            max_context=max_context,
            default_max_tokens=(
                self._settings.default_max_tokens if is_chat else COMPLETION_MAX_TOKENS
            ),
            prompt_field="messages" if is_chat else "prompt",
        )


def _sibling(first: GenerationRequest, request_id: str, number: int) -> GenerationRequest:
    """Another answer to the same prompt: drawn from another seed, the prompt scored once."""
    seed = first.params.seed
    params = replace(
        first.params, seed=None if seed is None else seed + number, prompt_logprobs=None
    )
    return replace(first, request_id=request_id, params=params)
