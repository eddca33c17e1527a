"""From a request's parameters and a hat's defaults to the engine's SamplingParams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from registry.hats import Hat
from server.engine.request import SamplingParams
from server.errors import ContextLengthExceeded, InvalidRequest

from .parameters import Parameters

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class TokenBudget:
    """How long an answer may get. All are numbers of tokens."""

    max_context: int  # prompt and answer together
    default_max_tokens: int  # ceiling when neither request nor hat says
    prompt_field: str  # which parameter a prompt that is too long came in

    def max_tokens(self, num_prompt: int, requested: int | None, by_hat: int | None) -> int:
        """The answer's limit. Raises ContextLengthExceeded when it cannot fit.

        What the request asks for must fit; a default is cut to what is left.
        """
        room = self.max_context - num_prompt
        if room < 1 or (requested is not None and requested > room):
            raise ContextLengthExceeded(
                self._too_long(num_prompt, requested), param=self.prompt_field
            )
        if requested is not None:
            return requested
        return min(room, self.default_max_tokens if by_hat is None else by_hat)

    def _too_long(self, num_prompt: int, requested: int | None) -> str:
        if requested is None:
            asked = f"the prompt has {num_prompt} and leaves no room for an answer"
        else:
            asked = (
                f"the request comes to {num_prompt + requested} "
                f"({num_prompt} of prompt, {requested} of completion)"
            )
        return f"The context is {self.max_context} tokens, but {asked}."


def sampling_params(
    body: Parameters, hat: Hat, *, max_tokens: int, vocab_size: int, hat_stops: bool = True
) -> SamplingParams:
    """The request's values win over the hat's, the hat's over OpenAI's defaults.

    A hat's value over a request's limit counts as the limit. The hat's stop strings are added to
    the request's, if `hat_stops`. Raises InvalidRequest about token ids outside the vocabulary and
    about a minimum over the maximum.
    """
    if body.min_tokens is not None and body.min_tokens > max_tokens:
        raise InvalidRequest(
            f"'min_tokens' is {body.min_tokens}, over the limit of {max_tokens} tokens.",
            param="min_tokens",
        )
    defaults = hat.sampling.within_limits()
    return SamplingParams(
        max_tokens=max_tokens,
        min_tokens=body.min_tokens or 0,
        temperature=_first(body.temperature, defaults.temperature, 1.0),
        top_p=_first(body.top_p, defaults.top_p, 1.0),
        top_k=_top_k(_first(body.top_k, defaults.top_k, 0), vocab_size),
        min_p=_first(body.min_p, defaults.min_p, 0.0),
        seed=body.seed,
        presence_penalty=_first(body.presence_penalty, defaults.presence_penalty, 0.0),
        frequency_penalty=_first(body.frequency_penalty, defaults.frequency_penalty, 0.0),
        repetition_penalty=_first(body.repetition_penalty, defaults.repetition_penalty, 1.0),
        logit_bias=_logit_bias(body, vocab_size),
        stop=tuple(dict.fromkeys(body.stop_texts + (hat.stop if hat_stops else ()))),
        stop_token_ids=_stop_token_ids(body, vocab_size),
        ignore_eos=bool(body.ignore_eos),
        skip_special_tokens=body.skip_special_tokens is not False,
        logprobs=_num_logprobs(body),
        prompt_logprobs=body.num_logprobs if body.is_echoed else None,
    )


def check_token_id(token_id: int, vocab_size: int, param: str) -> int:
    """Return `token_id` if the vocabulary has it; raise InvalidRequest otherwise."""
    if token_id >= vocab_size:
        raise InvalidRequest(
            f"'{param}': there is no token {token_id}; the vocabulary has {vocab_size}.",
            param=param,
        )
    return token_id


def _num_logprobs(body: Parameters) -> int | None:
    """The best of several answers is told by its tokens' probabilities."""
    if body.num_logprobs is None and body.num_candidates > body.num_choices:
        return 0
    return body.num_logprobs


def _first(requested: Number | None, by_hat: Number | None, otherwise: Number) -> Number:
    if requested is not None:
        return requested
    return otherwise if by_hat is None else by_hat


def _top_k(asked: int, vocab_size: int) -> int:
    """0 is off; so are vLLM's -1 and all that leaves nobody out, which may not fit 32 bits."""
    return asked if 0 < asked < vocab_size else 0


def _logit_bias(body: Parameters, vocab_size: int) -> dict[int, float]:
    return {
        check_token_id(int(token), vocab_size, f"logit_bias.{token}"): bias
        for token, bias in (body.logit_bias or {}).items()
    }


def _stop_token_ids(body: Parameters, vocab_size: int) -> tuple[int, ...]:
    return tuple(
        check_token_id(token_id, vocab_size, f"stop_token_ids.{index}")
        for index, token_id in enumerate(body.stop_token_ids or [])
    )
