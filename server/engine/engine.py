"""The engine: schedule, run, settle."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import Protocol

import torch

from server.engine.batch import Batch
from server.engine.config import EngineSettings
from server.engine.detokenizer import Detokenizer
from server.engine.device_errors import device_survives
from server.engine.executor import Executor, Outcome
from server.engine.fair_turns import Share
from server.engine.kv_cache import BlockPool
from server.engine.load_times import LoadTimes
from server.engine.places import AdapterDoor
from server.engine.pooling import unit_vector
from server.engine.request import (
    AdapterMove,
    AdapterRef,
    EngineStats,
    GenerationDelta,
    GenerationRequest,
    ResidentAdapter,
    TokenLogprob,
)
from server.engine.sampled import Sampled
from server.engine.scheduler import Scheduler
from server.engine.sequence import Sequence
from server.engine.waiting_room import WaitingRoom
from server.errors import (
    AdapterLoadError,
    ContextLengthExceeded,
    InvalidRequest,
    NonFiniteLogits,
    OutOfMemory,
    ServingError,
)

logger = logging.getLogger(__name__)

REMEMBERED_BATCHES = 256
Emit = Callable[[str, GenerationDelta | ServingError], None]
"""Called with a request id and what happened to it."""


class Tokenizer(Protocol):
    """What the engine needs of a tokenizer."""

    def decode(self, token_ids: Rows[int]) -> str: ...
    def decode_all(self, token_ids: Rows[int]) -> str: ...
    def token_text(self, token_id: int) -> str: ...
    @property
    def eos_token_ids(self) -> frozenset[int]: ...


class Adapters(AdapterDoor, Protocol):
    """What the engine needs of the residency layer."""

    def settle(self) -> None:
        """Between two steps: move loaded adapters into slots that are free for them."""
        ...

    @property
    def failures(self) -> Mapping[str, AdapterLoadError]:
        """Which adapters could not be loaded since the last step, and why."""
        ...

    @property
    def is_moving(self) -> bool:
        """Whether a load is under way or waits for a slot."""
        ...

    def want(self, adapter: AdapterRef) -> None: ...
    def pin(self, adapter: AdapterRef) -> None: ...
    def unload(self, digest: str) -> bool: ...
    def is_resident(self, digest: str) -> bool: ...
    def is_wanted(self, digest: str) -> bool: ...
    def is_gone(self, digest: str) -> bool: ...
    def stop(self) -> None: ...
    def residents(self) -> tuple[ResidentAdapter, ...]: ...
    def loading(self) -> tuple[AdapterRef, ...]: ...
    @property
    def num_loads(self) -> int: ...
    @property
    def num_evictions(self) -> int: ...
    @property
    def recent_moves(self) -> tuple[AdapterMove, ...]: ...
    @property
    def load_times(self) -> LoadTimes: ...
    @property
    def activate_times(self) -> LoadTimes: ...


@dataclass(frozen=True)
class EngineParts:
    """What an engine is made of; `build.py` puts it together."""

    executor: Executor
    blocks: BlockPool
    adapters: Adapters
    tokenizer: Tokenizer
    settings: EngineSettings
    max_context: int


class Engine:
    """Owns every sequence from submission to its last delta; one thread drives it."""

    def __init__(self, parts: EngineParts) -> None:
        self._executor = parts.executor
        self._blocks = parts.blocks
        self.adapters = parts.adapters
        self._tokenizer = parts.tokenizer
        self._settings = parts.settings
        self.max_context = parts.max_context
        self._scheduler = Scheduler(
            parts.blocks,
            parts.adapters,
            max_batch=parts.settings.max_batch,
            chunk=parts.settings.chunk,
            lone_chunk=parts.settings.lone_chunk,
            patience=parts.settings.patience,
            adapter_share=parts.settings.adapter_share,
        )
        self._under_way: deque[tuple[Batch, Outcome]] = deque()  # oldest first
        self._sequences: dict[str, Sequence] = {}
        self._recent: deque[Mapping[str, int]] = deque(maxlen=REMEMBERED_BATCHES)
        self._room = WaitingRoom(
            self._scheduler.waiting,
            max_batch=parts.settings.max_batch,
            max_waiting=parts.settings.max_waiting,
        )
        # Who gave their place in the queue up, and is to be told.
        self._displaced: list[GenerationRequest] = []
        self._num_steps = self._num_prompt_tokens = self._num_generated_tokens = 0

    @property
    def weight_bytes(self) -> int:
        """What the resident base takes."""
        return self._executor.weight_bytes

    @property
    def share(self) -> Share:
        """What one adapter may have of a step while others are asked for."""
        return self._scheduler.share

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work or self.adapters.is_moving or bool(self._under_way)

    def add(self, request: GenerationRequest) -> None:
        """Queue a request; QueueFull or InvalidRequest if it cannot be taken."""
        self._check_tokens(request)
        self._check_length(request)
        is_promised = self._enter(request)
        params = request.params
        tokenizer = self._tokenizer
        decode = tokenizer.decode if params.skip_special_tokens else tokenizer.decode_all
        detokenizer = Detokenizer(decode, params.stop, params.min_tokens)
        sequence = Sequence(request, detokenizer, arrival=time.monotonic())
        sequence.is_promised = is_promised
        self._sequences[request.request_id] = sequence
        self._scheduler.add(sequence)

    def abort(self, request_id: str) -> None:
        """Forget a sequence at once; unknown ids are ignored, since it may just have finished."""
        sequence = self._forget(request_id)
        if sequence is not None:
            self._scheduler.remove(sequence)

    @property
    def runs_beside(self) -> bool:
        """Whether a step is under way beside the host."""
        return bool(self._under_way)

    @torch.inference_mode()
    def step(self, emit: Emit, begun: Callable[[], None] = lambda: None) -> bool:
        """Begin a step, and emit what the oldest one under way brought. False if there was neither.

        Where steps run beside the host, the next one is begun before this one's tokens are read,
        and `begun` called between the two.
        """
        self.adapters.settle()
        self._tell_displaced(emit)
        self._fail_unloadable(emit)
        batch = self._scheduler.next()
        if batch:
            self._launch(batch, emit)
        elif not self._under_way:
            return False
        begun()
        if self._under_way and (not batch or len(self._under_way) > self._executor.lookahead):
            self._settle(*self._under_way.popleft(), emit)
        return True

    def stats(self) -> EngineStats:
        scheduler = self._scheduler
        return EngineStats(
            num_running=len(scheduler.running),
            num_waiting=len(scheduler.waiting),
            max_waiting=self._settings.max_waiting,
            num_blocks=self._blocks.num_usable,
            num_free_blocks=self._blocks.num_free,
            block_size=self._blocks.block_size,
            max_slots=self._settings.max_slots,
            max_context=self.max_context,
            resident=self.adapters.residents(),
            loading=self.adapters.loading(),
            num_steps=self._num_steps,
            num_prompt_tokens=self._num_prompt_tokens,
            num_generated_tokens=self._num_generated_tokens,
            num_prefix_hits=scheduler.num_prefix_hits,
            num_preemptions=scheduler.num_preemptions,
            num_adapter_loads=self.adapters.num_loads,
            num_adapter_evictions=self.adapters.num_evictions,
            load_times=self.adapters.load_times,
            activate_times=self.adapters.activate_times,
            recent_moves=self.adapters.recent_moves,
            recent_batches=tuple(self._recent),
        )

    def check_idle(self) -> None:
        """Assert that nothing leaks: with no sequence left, every block is free."""
        assert not self._sequences
        assert self._blocks.num_free == self._blocks.num_usable
        self._blocks.check()

    def _check_tokens(self, request: GenerationRequest) -> None:
        """A token outside the embedding would end everybody's step."""
        if not request.prompt_token_ids:
            raise InvalidRequest("the prompt has no tokens", param="prompt")
        vocab_size, params = self._executor.vocab_size, request.params
        for name, token_ids in (
            ("prompt", request.prompt_token_ids),
            ("logit_bias", params.logit_bias),
            ("stop_token_ids", params.stop_token_ids),
        ):
            if token_ids and not 0 <= min(token_ids) <= max(token_ids) < vocab_size:
                raise InvalidRequest(
                    f"{name} has tokens outside the base's vocabulary of {vocab_size}", param=name
                )

    def _check_length(self, request: GenerationRequest) -> None:
        prompt, wanted = len(request.prompt_token_ids), request.params.max_tokens
        if prompt + wanted > self.max_context:
            raise ContextLengthExceeded(
                f"the prompt has {prompt} tokens and max_tokens is {wanted}; together they exceed "
                f"the context of {self.max_context} tokens",
                param="max_tokens",
            )

    def _enter(self, request: GenerationRequest) -> bool:
        """Take a place to wait in, if need be somebody else's; whether it had been promised."""
        entry = self._room.enter(request, len(self._sequences))
        if entry.displaced is not None:
            self._scheduler.remove(entry.displaced)
            self._displaced.append(entry.displaced.request)
            # No departure: its place is taken again.
            del self._sequences[entry.displaced.request.request_id]
        return entry.is_promised

    def _tell_displaced(self, emit: Emit) -> None:
        """Refuse those whose places others came to have a right to."""
        displaced, self._displaced = self._displaced, []
        for request in displaced:
            emit(request.request_id, self._room.refusal(request))

    def _fail_unloadable(self, emit: Emit) -> None:
        for digest, error in self.adapters.failures.items():
            for sequence in self._scheduler.waiting.line(digest):
                self.abort(sequence.request.request_id)
                emit(sequence.request.request_id, error)

    def _launch(self, batch: Batch, emit: Emit) -> None:
        """Begin a step. If the device has no room for it, its newest sequence is told so."""
        try:
            self._under_way.append((batch, self._executor.launch(batch)))
        except RuntimeError as error:
            if not device_survives(error):
                raise
            self._scheduler.undo(batch)
            while self._under_way:  # a part of the step may have run: no token may be left there
                self._settle(*self._under_way.popleft(), emit)
            self._shed_newest(batch, emit, error)

    def _shed_newest(self, batch: Batch, emit: Emit, error: RuntimeError) -> None:
        """End whoever came last, so that the others' step may fit."""
        left = [
            c.sequence for c in batch.chunks if c.sequence.request.request_id in self._sequences
        ]
        if not left:
            return
        newest = max(left, key=lambda sequence: sequence.arrival).request
        logger.error("%s was ended for want of device memory: %s", newest.request_id, error)
        self.abort(newest.request_id)
        emit(
            newest.request_id,
            OutOfMemory(
                "the device has no memory left for this request beside those that run; try again, "
                "or start the server with less --kv-memory or fewer --max-slots",
                retry_after=1.0,
            ),
        )

    def _settle(self, batch: Batch, outcome: Outcome, emit: Emit) -> None:
        """Take in what a step brought, once it is there; who has ended meanwhile gets nothing."""
        sampled = outcome()
        self._scheduler.settle(batch, [choice.token_id if choice else None for choice in sampled])
        self._count(batch)
        for sequence, choice in zip(batch.sampling, sampled, strict=True):
            request_id = sequence.request.request_id
            if self._sequences.get(request_id) is not sequence:
                continue
            if choice is None:
                self._forget(request_id)
                emit(request_id, _no_token(sequence))
            else:
                emit(request_id, self._advance(sequence, choice))
        for chunk in batch.prefilling:
            request_id = chunk.sequence.request.request_id
            if chunk.embeds and self._sequences.get(request_id) is chunk.sequence:
                emit(request_id, self._embed(chunk.sequence))

    def _embed(self, sequence: Sequence) -> GenerationDelta | ServingError:
        """End a sequence whose prompt is computed, with what was pooled of it."""
        self._forget(sequence.request.request_id)
        assert sequence.pooled is not None
        embedding = unit_vector(sequence.pooled)
        if embedding is None:
            self._scheduler.discard(sequence)
            return _not_finite(sequence)
        self._scheduler.remove(sequence)
        return GenerationDelta(
            text="",
            token_ids=(),
            finish_reason="stop",
            num_prompt_tokens=sequence.num_prompt_tokens,
            num_cached_tokens=sequence.num_cached,
            times=sequence.times,
            embedding=embedding,
        )

    def _forget(self, request_id: str) -> Sequence | None:
        """Let go of a sequence that ends here; None if there is none of that id."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is not None:
            self._room.note_departure()
        return sequence

    def _count(self, batch: Batch) -> None:
        self._num_steps += 1
        self._num_generated_tokens += len(batch.sampling)
        self._num_prompt_tokens += sum(chunk.num_tokens for chunk in batch.prefilling)
        self._recent.append(batch.composition)

    def _advance(self, sequence: Sequence, choice: Sampled) -> GenerationDelta:
        """Take the sampled token into the text, end the sequence if it ends here."""
        text = self._read(sequence, choice.token_id)
        if sequence.is_finished:
            text += sequence.detokenizer.flush()
            if sequence.stop_reason is None and sequence.detokenizer.stopped_by is not None:
                sequence.finish("stop", sequence.detokenizer.stopped_by)
            self._scheduler.remove(sequence)
            self._forget(sequence.request.request_id)
        return GenerationDelta(
            text=text,
            token_ids=(choice.token_id,),
            logprobs=() if choice.logprob is None else (self._scored(choice, choice.logprob),),
            prompt_logprobs=self._prompt_logprobs(sequence),
            finish_reason=sequence.finish_reason,
            stop_reason=sequence.stop_reason,
            num_prompt_tokens=sequence.num_prompt_tokens,
            num_cached_tokens=sequence.num_cached,
            num_completion_tokens=sequence.num_generated,
            times=sequence.times if sequence.num_generated == 1 else None,
        )

    def _read(self, sequence: Sequence, token_id: int) -> str:
        params = sequence.params
        if token_id in params.stop_token_ids:
            sequence.finish("stop", token_id)
            return ""
        if token_id in self._tokenizer.eos_token_ids and not params.ignore_eos:
            sequence.finish("stop")
            return ""
        text = sequence.detokenizer.push(token_id)
        if sequence.detokenizer.stopped_by is not None:
            sequence.finish("stop", sequence.detokenizer.stopped_by)
        elif _completes(sequence, token_id):
            sequence.finish("stop")
        elif sequence.num_generated >= params.max_tokens:
            sequence.finish("length")
        return text

    def _prompt_logprobs(self, sequence: Sequence) -> tuple[TokenLogprob, ...]:
        """Those of the whole prompt, with the first token."""
        if sequence.num_generated > 1:
            return ()
        return tuple(
            self._scored(score, score.logprob)
            for score in sequence.scores
            if score.logprob is not None
        )

    def _scored(self, choice: Sampled, logprob: float) -> TokenLogprob:
        text = self._tokenizer.token_text
        top = tuple((token_id, text(token_id), value) for token_id, value in choice.top)
        return TokenLogprob(choice.token_id, text(choice.token_id), logprob, top)


def _completes(sequence: Sequence, token_id: int) -> bool:
    """Whether the token is the last that the sequence's grammar lets come."""
    if sequence.matcher is None:
        return False
    sequence.matcher.take(token_id)
    return sequence.matcher.is_over


def _no_token(sequence: Sequence) -> ServingError:
    """Why no token could be chosen."""
    if sequence.matcher is not None and sequence.matcher.error is not None:
        return InvalidRequest(
            "The grammar of this answer costs too much to follow: "
            f"{sequence.matcher.error}. Make it simpler."
        )
    return _not_finite(sequence)


def _not_finite(sequence: Sequence) -> NonFiniteLogits:
    error = NonFiniteLogits(
        f"the model's output became NaN or infinite after {sequence.num_generated} tokens of "
        f"{sequence.label}, so that nothing can be made of it; its weights are damaged, or "
        "overflow on this prompt"
    )
    logger.error("%s: %s", sequence.request.request_id, error)
    return error
