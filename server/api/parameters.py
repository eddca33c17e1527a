"""The parameters that both generation endpoints share, parsed strictly and refused by name.

A field marked `Only(...)` is one that OpenAI or vLLM knows and this server does not carry out: the
values that change nothing are accepted, any other is refused as `unsupported_parameter`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from . import limits
from .composition_body import WeightedName, WeightedNames
from .errors import UnsupportedParameter
from .only import Only
from .structure_body import Choices, GuidedJson, ResponseFormat, StructuredOutputs
from .unions import text_or_list


def by_shape(value: Any) -> str:
    """Names a value's shape, so that a union's error speaks of the variant that was meant.

    Tags stand in angle brackets, which is how `bodies.parameter_name` knows to leave them out.
    """
    if not isinstance(value, list):
        return "<text>"
    if value and isinstance(value[0], list):
        return "<token lists>"
    if value and isinstance(value[0], int):
        return "<tokens>"
    return "<list>"


StopText = Annotated[str, StringConstraints(min_length=1, max_length=limits.MAX_STOP_LENGTH)]
Stop = Annotated[
    Annotated[StopText, Tag("<text>")]
    | Annotated[list[StopText], Field(max_length=limits.MAX_STOPS), Tag("<list>")],
    Discriminator(text_or_list),
]
TokenId = Annotated[int, Field(ge=0)]
Bias = Annotated[float, Field(ge=-100, le=100)]
TokenKey = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")]


class StreamOptions(BaseModel):
    """`stream_options`; `include_obfuscation` asks for padding that is never added here."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Parameters(BaseModel):
    """What both endpoints take. None means that the request does not say."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    model: Annotated[str, StringConstraints(min_length=1, max_length=limits.MAX_NAME)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    max_tokens: int | None = Field(default=None, ge=1)
    n: int | None = Field(default=None, ge=1, le=limits.MAX_CHOICES)
    min_tokens: int | None = Field(default=None, ge=0)
    temperature: float | None = Field(default=None, ge=0, le=limits.HIGHEST_TEMPERATURE)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(
        default=None, gt=0, le=limits.HIGHEST_REPETITION_PENALTY
    )
    logit_bias: dict[TokenKey, Bias] | None = Field(
        default=None, max_length=limits.MAX_BIASED_TOKENS
    )
    stop: Stop | None = None
    stop_token_ids: list[TokenId] | None = Field(default=None, max_length=limits.MAX_STOP_TOKENS)
    ignore_eos: bool | None = None
    return_token_ids: bool | None = None
    skip_special_tokens: bool | None = None

    adapters: WeightedNames | None = None  # whose updates are added up

    # What the answer has to look like; at most one of them.
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: GuidedJson | None = None
    guided_regex: str | None = None
    guided_choice: Choices | None = None
    guided_grammar: str | None = None
    guided_whitespace_pattern: (
        Annotated[str, StringConstraints(max_length=limits.MAX_STOP_LENGTH)] | None
    ) = None

    # Accepted because clients send them, and without effect here.
    user: Annotated[str, StringConstraints(max_length=1024)] | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None

    # Known elsewhere, not carried out here.
    use_beam_search: Annotated[Any, Only(False)] = None
    length_penalty: Annotated[Any, Only(1, 1.0)] = None
    prompt_logprobs: Annotated[Any, Only(0)] = None
    spaces_between_special_tokens: Annotated[Any, Only(True)] = None
    include_stop_str_in_output: Annotated[Any, Only(False)] = None
    truncate_prompt_tokens: Annotated[Any, Only()] = None
    allowed_token_ids: Annotated[Any, Only()] = None
    bad_words: Annotated[Any, Only([])] = None
    priority: Annotated[Any, Only(0)] = None

    def check(self) -> None:
        """Raise InvalidRequest about parameters that do not go together."""
        if self.stream_options is not None and not self.stream:
            raise UnsupportedParameter(
                "'stream_options' only means something with 'stream': true.", param="stream_options"
            )

    @property
    def composition(self) -> Sequence[WeightedName]:
        """The adapters to add up; none means the one that `model` names."""
        return self.adapters or ()

    @property
    def wants_usage(self) -> bool:
        """Whether a stream should end with a chunk that counts tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def num_choices(self) -> int:
        """Answers to give to each prompt."""
        return self.n or 1

    @property
    def num_candidates(self) -> int:
        """Answers to make for each prompt, of which the best `num_choices` are given."""
        return self.num_choices

    @property
    def stop_texts(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def completion_limit(self) -> int | None:
        """How many tokens the answer may have, if the request says."""
        return self.max_tokens

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives to report beside each chosen token; None reports nothing."""
        raise NotImplementedError

    @property
    def is_echoed(self) -> bool:
        """Whether the answer begins with the prompt."""
        return False
