"""One sequence on its way through the engine."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

import torch

from server.engine.constraint import Matcher
from server.engine.detokenizer import Detokenizer
from server.engine.kv_cache import block_key
from server.engine.request import (
    FinishReason,
    GenerationRequest,
    SamplingParams,
    SequenceTimes,
    TokenLogprob,
)
from server.engine.sampled import Sampled

BASE_DIGEST = "base"


@dataclass(eq=False)
class Sequence:
    """Prompt and generated tokens, where their KV lies, and how far they are computed.

    `num_computed` tokens have their KV in `blocks`, or get it in a step that is under way. The last
    `num_pending` tokens are chosen by such a step and not known here yet. A preempted sequence
    gives its blocks up and computes its tokens anew, generated ones included; nothing it has
    already said changes.
    """

    request: GenerationRequest
    detokenizer: Detokenizer
    arrival: float = field(default_factory=time.monotonic)
    account: str | None = field(init=False)  # the request's
    token_ids: list[int] = field(init=False)
    noise_seed: int = field(init=False)  # of what a device draws; the host has the generator
    num_computed: int = 0
    num_pending: int = 0
    blocks: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    num_published: int = 0  # leading blocks that the pool knows by key
    turn: float = 0.0  # at which its prompt is computed, once it is admitted
    is_promised: bool = False  # it came when it was told to, after it had been refused
    was_admitted: bool = False  # before it was preempted, if it waits
    num_cached: int = 0  # prompt tokens that were there when it was first admitted
    slot: int | None = None
    adapter_wanted: float = 0.0  # when it was found missing; 0: it was there
    adapter_ready: float = 0.0  # when it was found after that
    times: SequenceTimes | None = None  # from its first admission on
    generator: torch.Generator | None = None
    matcher: Matcher | None = field(init=False)
    pending_logprobs: list[TokenLogprob] = field(default_factory=list)
    scores: list[Sampled] = field(default_factory=list)  # of the prompt's tokens from the second on
    pooled: torch.Tensor | None = None  # [hidden] fp64, where an embedding is wanted
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None

    def __post_init__(self) -> None:
        self.account = self.request.account
        self.token_ids = list(self.request.prompt_token_ids)
        seed = self.params.seed
        self.noise_seed = random.getrandbits(63) if seed is None else seed & (2**63 - 1)
        if self.params.seed is not None:
            self.generator = torch.Generator().manual_seed(self.params.seed)
        constraint = self.request.constraint
        self.matcher = None if constraint is None else constraint.start()

    @property
    def params(self) -> SamplingParams:
        return self.request.params

    @property
    def adapter_digest(self) -> str | None:
        return self.request.adapter_digest

    @property
    def label(self) -> str:
        return self.request.adapter.label if self.request.adapter else BASE_DIGEST

    @property
    def num_tokens(self) -> int:
        """Known and pending ones."""
        return len(self.token_ids) + self.num_pending

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.request.prompt_token_ids)

    @property
    def num_generated(self) -> int:
        """Known ones."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_uncomputed(self) -> int:
        return self.num_tokens - self.num_computed

    @property
    def is_decoding(self) -> bool:
        """Only its newest token is left to compute."""
        return self.num_tokens > self.num_prompt_tokens and self.num_uncomputed == 1

    @property
    def needs_every_row(self) -> bool:
        """Whether no part of the prompt may be taken over from others, computed before."""
        return self.wants_score_after(0) or self.request.pooling == "mean"

    @property
    def must_wait(self) -> bool:
        """Whether the pending token has to be read before another step is of use."""
        ends = self.num_generated + self.num_pending >= self.params.max_tokens
        return self.num_pending > 0 and (ends or self.needs_host or self.matcher is not None)

    @property
    def needs_host(self) -> bool:
        """Whether the next token is chosen from logits by what only the host knows."""
        params = self.params
        too_short = self.num_generated < params.min_tokens
        return bool(
            params.needs_history or params.logit_bias or params.logprobs is not None or too_short
        )

    @property
    def is_finished(self) -> bool:
        return self.finish_reason is not None

    @property
    def generated_ids(self) -> list[int]:
        return self.token_ids[self.num_prompt_tokens :]

    def wants_score_after(self, position: int) -> bool:
        """Whether the prompt's tokens after that position still need their probabilities."""
        if self.params.prompt_logprobs is None:
            return False
        last = self.num_prompt_tokens - 1
        return position < last and len(self.scores) < last

    def note_adapter(self, asked_at: float) -> None:
        """Remember since when its adapter was missing, and when it had come."""
        if self.slot is None:
            self.adapter_wanted = self.adapter_wanted or asked_at
        elif self.adapter_wanted:
            self.adapter_ready = self.adapter_ready or asked_at

    def note_admission(self) -> None:
        """Remember when it was admitted first, and what it had waited for."""
        self.times = SequenceTimes(
            arrived=self.arrival,
            adapter_wanted=self.adapter_wanted,
            adapter_ready=self.adapter_ready,
            admitted=time.monotonic(),
            slot=self.slot,
        )

    def block_keys(self, block_size: int) -> list[bytes]:
        """Keys of all full blocks so far, extended as tokens come."""
        scope = self.request.prefix_scope
        parent = f"{self.adapter_digest or BASE_DIGEST} {scope}".encode()
        for start in range(len(self.keys) * block_size, self.num_tokens, block_size):
            tokens = self.token_ids[start : start + block_size]
            if len(tokens) < block_size:
                break
            self.keys.append(block_key(self.keys[-1] if self.keys else parent, tokens))
        return self.keys

    def finish(self, reason: FinishReason, stop_reason: str | int | None = None) -> None:
        self.finish_reason = reason
        self.stop_reason = stop_reason
