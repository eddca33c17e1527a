"""What goes into the engine and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, NamedTuple

from registry.tracing import NO_SPAN, Span
from server.engine.constraint import Constraint
from server.engine.load_times import LoadTimes

FinishReason = Literal["stop", "length", "abort", "error"]
LOWEST_TEMPERATURE = 1e-5  # logits divided by less may overflow; there is one choice left anyway


@dataclass(frozen=True)
class SamplingParams:
    """How to choose tokens, in OpenAI's and vLLM's terms.

    `temperature` 0, or too low to divide by, is greedy. `top_k` 0, `top_p` 1.0 and `min_p` 0.0
    switch each filter off.
    `logprobs` is how many alternatives to report beside the chosen token (None: report nothing);
    `prompt_logprobs` the same of each token of the prompt from the second on.
    `stop` strings end the text before them; `stop_token_ids` end the sequence at the token.
    `skip_special_tokens` leaves such tokens out of the text.
    """

    max_tokens: int = 16
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    logprobs: int | None = None
    prompt_logprobs: int | None = None

    @property
    def is_greedy(self) -> bool:
        return self.temperature < LOWEST_TEMPERATURE

    @property
    def needs_history(self) -> bool:
        """Whether the logits depend on which tokens came before."""
        return bool(
            self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1.0
        )


@dataclass(frozen=True)
class AdapterRef:
    """Which adapter a sequence runs with: the version's digest, and a label ("sql@3").

    `asked_in` is the request that loading it, should that be needed, is part of. `parts` are what a
    composition adds up (`composition.py` names it); a version has none.
    """

    digest: str
    label: str
    asked_in: Span = field(default=NO_SPAN, compare=False, repr=False)
    parts: tuple[WeightedAdapter, ...] = ()

    @property
    def versions(self) -> tuple[AdapterRef, ...]:
        """The version that this is, or those that it is composed of."""
        return tuple(part.adapter for part in self.parts) or (self,)

    @property
    def account(self) -> str:
        """The digest that this counts as where adapters take turns.

        A composition counts as its part with the largest scale: else whoever varied the scales
        would have a turn for each of them.
        """
        if not self.parts:
            return self.digest
        return min((-abs(part.scale), part.adapter.digest) for part in self.parts)[1]


@dataclass(frozen=True)
class WeightedAdapter:
    """A version in a composition: its update is multiplied by `scale`."""

    adapter: AdapterRef
    scale: float


Pooling = Literal["mean", "last"]
"""Which of a prompt's hidden states make its embedding: the mean of all, or the last token's."""


@dataclass(frozen=True)
class GenerationRequest:
    """One sequence to be. `adapter` None is the bare base; `constraint` None lets anything come.

    With `pooling` nothing is generated: the prompt's embedding is the answer. Cached prefixes are
    shared by requests for the same adapter with the same `prefix_scope`.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    params: SamplingParams
    adapter: AdapterRef | None = None
    constraint: Constraint | None = None
    pooling: Pooling | None = None
    prefix_scope: str = ""

    @property
    def adapter_digest(self) -> str | None:
        return self.adapter.digest if self.adapter else None

    @property
    def account(self) -> str | None:
        """As which it has its share of places, blocks and steps."""
        return self.adapter.account if self.adapter else None


@dataclass(frozen=True)
class TokenLogprob:
    """One token's log-probability and its best alternatives, most probable first."""

    token_id: int
    text: str
    logprob: float
    top: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True)
class SequenceTimes:
    """What a sequence waited for before it ran; `time.monotonic()` seconds.

    From `adapter_wanted` to `adapter_ready` its adapter was on its way: 0 where it was there.
    """

    arrived: float
    adapter_wanted: float
    adapter_ready: float
    admitted: float
    slot: int | None  # of its adapter


class GenerationDelta(NamedTuple):
    """What one sequence gained since the last delta. A plain tuple: every token makes one.

    `text` is whole UTF-8 characters and never part of a stop string. `finish_reason` is set on
    the last delta only, and `stop_reason` then names the stop string or token id that ended it.
    `embedding` is what a request with `pooling` gets, of length 1, with its only delta.
    `prompt_logprobs` are on the first delta only, and of the tokens from the second on. `times`
    are on the first delta only.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_completion_tokens: int = 0
    times: SequenceTimes | None = None
    embedding: tuple[float, ...] = ()

    @classmethod
    def of_all(cls, deltas: Rows[GenerationDelta]) -> GenerationDelta:
        """What several say that follow one another, as one."""
        if len(deltas) == 1:
            return deltas[0]
        return deltas[-1]._replace(
            text="".join(delta.text for delta in deltas),
            token_ids=tuple(chain.from_iterable(delta.token_ids for delta in deltas)),
            logprobs=tuple(chain.from_iterable(delta.logprobs for delta in deltas)),
            prompt_logprobs=deltas[0].prompt_logprobs,
            times=deltas[0].times,
        )


class ResidentAdapter(NamedTuple):
    """One adapter held by this server, for metrics and `/v1/models`.

    A plain tuple, since hundreds are made in every step.
    """

    digest: str
    label: str
    level: Literal["slot", "host"]
    rank: int
    pinned: bool
    num_running: int


@dataclass(frozen=True)
class AdapterMove:
    """An adapter that was read into host memory, was put into a slot, or left it."""

    at: float  # Unix seconds
    label: str
    kind: Literal["host", "slot", "out"]


@dataclass(frozen=True)
class EngineStats:
    """A snapshot of the engine, taken between two steps; safe to read from any thread."""

    num_running: int = 0
    num_waiting: int = 0
    max_waiting: int = 0  # beyond a full batch
    num_blocks: int = 0
    num_free_blocks: int = 0
    block_size: int = 16
    max_slots: int = 0
    max_context: int = 0
    resident: tuple[ResidentAdapter, ...] = ()
    loading: tuple[AdapterRef, ...] = ()  # on their way into a slot
    num_steps: int = 0
    num_prompt_tokens: int = 0
    num_generated_tokens: int = 0
    num_prefix_hits: int = 0  # prompt tokens taken from the prefix cache
    num_preemptions: int = 0
    num_adapter_loads: int = 0
    num_adapter_evictions: int = 0
    load_times: LoadTimes = field(default_factory=LoadTimes)  # from the registry into host memory
    activate_times: LoadTimes = field(default_factory=LoadTimes)  # from host memory into a slot
    recent_moves: tuple[AdapterMove, ...] = ()  # of adapters, oldest first
    # The newest steps, oldest first; each is {adapter label or "base": tokens in the step}.
    recent_batches: tuple[Mapping[str, int], ...] = ()

    @property
    def kv_usage(self) -> float:
        """Share of KV blocks in use, 0 to 1."""
        return 1 - self.num_free_blocks / self.num_blocks if self.num_blocks else 0.0
