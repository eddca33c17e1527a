"""From a parsed body to the sequences that the engine will run."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import anyio.to_thread

from registry.errors import TemplateFailed
from server.engine.constraint import Constraint
from server.engine.request import GenerationRequest, SamplingParams
from server.errors import AdapterNotServable, InvalidRequest
from server.proof.rendering import prompt_text
from server.settings import ApiSettings
from server.structure import GrammarCompiler, Shape
from server.tools import Toolbox

from .chat_body import ChatBody
from .completion_body import CompletionBody
from .job import Echo, Job
from .model_choice import ModelChoice
from .models import ServedModel
from .parameters import Parameters
from .permission import prefix_scope
from .ports import Base, Engine
from .sampling import TokenBudget, check_token_id, sampling_params
from .structure import HAT_SCHEMA, find_shape
from .token_body import TokenizeBody
from .tools import find_toolbox, rendered_tools, special_words, with_tools
from .wishes import Wishes

COMPLETION_MAX_TOKENS = 16  # what OpenAI documents for /v1/completions


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

    def tokens(self, model: ServedModel, body: TokenizeBody) -> list[int]:
        """What the model would read. Call it off the event loop."""
        tokenizer = self._base.tokenizer
        if body.messages is not None:
            self._template(model)
            turns = [message.as_turn() for message in body.messages]
            return tokenizer.encode(self._render(model, turns, None))
        text = body.prompt or ""
        is_plain = body.add_special_tokens is not False
        return tokenizer.encode_plain(text) if is_plain else tokenizer.encode(text)

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
        template = self._template(model)
        toolbox = find_toolbox(body, template, model.label)
        text = self._render(model, body.turns, rendered_tools(body, toolbox))
        prompt = tuple(self._base.tokenizer.encode(text))
        return self._job(model, body, [prompt], kind="chatcmpl", toolbox=toolbox)

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
        return self._choice.choose(body.model, replace(wishes, session=session), body.composition)

    def _template(self, model: ServedModel) -> str:
        template = model.hat.chat_template or self._base.tokenizer.chat_template
        if template is None:
            raise InvalidRequest(
                f"'{model.label}' has no chat template. Use /v1/completions.", param="model"
            )
        return template

    def _render(
        self,
        model: ServedModel,
        turns: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
    ) -> str:
        try:
            return prompt_text(self._base.tokenizer, model.hat, turns, tools)
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
        toolbox: Toolbox | None = None,
    ) -> Job:
        job_id = f"{kind}-{secrets.token_hex(12)}"
        special = {} if toolbox is None else special_words(toolbox, self._base.tokenizer)
        shape = find_shape(body, model.hat)
        if toolbox is not None:
            shape = with_tools(shape, toolbox, special)
        constraint = None if shape is None else self._constraint(model, shape)
        sequences: list[GenerationRequest] = []
        for prompt in prompts:
            params = self._params(
                model,
                body,
                len(prompt),
                # Neither a grammar nor a call may be cut by what ends the hat's free text.
                hat_stops=shape is None and toolbox is None,
                shows_special=bool(special),  # the words that calls are read by
            )
            request_id = f"{job_id}-{len(sequences)}"
            first = GenerationRequest(
                request_id,
                prompt,
                params,
                model.adapter,
                constraint,
                prefix_scope=prefix_scope(),
            )
            sequences.append(first)
            sequences += [
                _sibling(first, f"{job_id}-{len(sequences) + more}", more + 1)
                for more in range(body.num_candidates - 1)
            ]
        return Job(id=job_id, model=model, body=body, sequences=tuple(sequences), toolbox=toolbox)

    def _constraint(self, model: ServedModel, shape: Shape) -> Constraint:
        try:
            return self._grammars.compile(shape)
        except InvalidRequest as error:
            if not (error.param or "").startswith(HAT_SCHEMA):
                raise
            raise AdapterNotServable(
                f"The hat of {model.label} has a schema that no grammar can be made of. "
                f"{error.message}",
                param="model",
            ) from error

    def _params(
        self,
        model: ServedModel,
        body: Parameters,
        num_prompt: int,
        *,
        hat_stops: bool,
        shows_special: bool,
    ) -> SamplingParams:
        if not num_prompt:
            raise InvalidRequest("The prompt comes to no tokens at all.", param="prompt")
        max_tokens = self._budget(body).max_tokens(
            num_prompt, body.completion_limit, model.hat.sampling.max_tokens
        )
        params = sampling_params(
            body,
            model.hat,
            max_tokens=max(1, max_tokens),  # of 0 the answer shows none
            vocab_size=self._base.tokenizer.vocab_size,
            hat_stops=hat_stops,
        )
        return replace(params, skip_special_tokens=False) if shows_special else params

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
