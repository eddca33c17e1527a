"""The engine: schedule, run, settle."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch

from server.engine.batch import Batch
from server.engine.config import EngineSettings
from server.engine.deltas import DeltaWriter, embedding_delta
from server.engine.device_errors import device_survives
from server.engine.executor import Executor, Outcome
from server.engine.fair_time import FairTime
from server.engine.kv_cache import BlockPool
from server.engine.ports import Adapters, Emit, Tokenizer
from server.engine.request import EngineStats, GenerationDelta, GenerationRequest
from server.engine.request_limits import RequestLimits
from server.engine.sampled import Sampled
from server.engine.scheduler import Scheduler
from server.engine.sequence import Sequence
from server.engine.sequence_errors import no_token, not_finite, out_of_memory
from server.engine.step_costs import StepCosts, StepWatch
from server.engine.step_tally import StepTally
from server.engine.waiting_room import WaitingRoom
from server.errors import ServingError


@dataclass(frozen=True)
class EngineParts:
    """What an engine is made of; `build.py` puts it together. clock: seconds, of steps."""

    executor: Executor
    blocks: BlockPool
    adapters: Adapters
    tokenizer: Tokenizer
    settings: EngineSettings
    max_context: int
    clock: Callable[[], float] = time.monotonic


class Engine:
    """Owns every sequence from submission to its last delta; one thread drives it."""

    def __init__(self, parts: EngineParts) -> None:
        self._executor = parts.executor
        self._blocks = parts.blocks
        self.adapters = parts.adapters
        self._deltas = DeltaWriter(parts.tokenizer)
        self._settings = parts.settings
        self.max_context = parts.max_context
        self._limits = RequestLimits(parts.executor.vocab_size, parts.max_context)
        self._tally = StepTally()
        costs = StepCosts()
        self._watch = StepWatch(costs, parts.clock)
        self._scheduler = Scheduler(
            parts.blocks,
            parts.adapters,
            max_batch=parts.settings.max_batch,
            chunk=parts.settings.chunk,
            lone_chunk=parts.settings.lone_chunk,
            patience=parts.settings.patience,
            fair_time=FairTime(
                parts.settings.adapter_share,
                costs,
                chunk=parts.settings.chunk,
                clock=parts.clock,
            ),
        )
        self._under_way: deque[tuple[Batch, Outcome]] = deque()  # oldest first
        self._sequences: dict[str, Sequence] = {}
        self._room = WaitingRoom(
            self._scheduler.waiting,
            max_batch=parts.settings.max_batch,
            max_waiting=parts.settings.max_waiting,
        )
        # Who gave their place in the queue up, and is to be told.
        self._displaced: list[GenerationRequest] = []

    @property
    def weight_bytes(self) -> int:
        """What the resident base takes."""
        return self._executor.weight_bytes

    @property
    def fair_time(self) -> FairTime:
        """What binds one adapter while others are asked for."""
        return self._scheduler.fair_time

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work or self.adapters.is_moving or bool(self._under_way)

    @property
    def runs_beside(self) -> bool:
        """Whether a step is under way beside the host."""
        return bool(self._under_way)

    def add(self, request: GenerationRequest) -> None:
        """Queue a request; QueueFull or InvalidRequest if it cannot be taken."""
        self._limits.check(request)
        is_promised = self._enter(request)
        detokenizer = self._deltas.detokenizer(request.params)
        sequence = Sequence(request, detokenizer, arrival=time.monotonic())
        sequence.is_promised = is_promised
        self._sequences[request.request_id] = sequence
        self._scheduler.add(sequence)

    def abort(self, request_id: str) -> None:
        """Forget a sequence at once; unknown ids are ignored, since it may just have finished."""
        sequence = self._sequences.get(request_id)
        if sequence is not None:
            self._end(sequence)

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
            self._watch.rest()
            return False
        begun()
        if self._under_way and (not batch or len(self._under_way) > self._executor.lookahead):
            self._settle(*self._under_way.popleft(), emit)
            if not self.has_work:
                self._watch.rest()
        return True

    def stats(self) -> EngineStats:
        """A snapshot, to be taken between two steps."""
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
            num_steps=self._tally.num_steps,
            num_prompt_tokens=self._tally.num_prompt_tokens,
            num_generated_tokens=self._tally.num_generated_tokens,
            num_prefix_hits=scheduler.num_prefix_hits,
            num_preemptions=scheduler.num_preemptions,
            num_adapter_loads=self.adapters.num_loads,
            num_adapter_evictions=self.adapters.num_evictions,
            load_times=self.adapters.load_times,
            activate_times=self.adapters.activate_times,
            recent_moves=self.adapters.recent_moves,
            recent_batches=self._tally.recent,
        )

    def check_idle(self) -> None:
        """Assert that nothing leaks: with no sequence left, every block is free."""
        assert not self._sequences
        assert self._blocks.num_free == self._blocks.num_usable
        self._blocks.check()

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
                self._end(sequence)
                emit(sequence.request.request_id, error)

    def _launch(self, batch: Batch, emit: Emit) -> None:
        """Begin a step. If the device has no room for it, its newest sequence is told so."""
        try:
            self._under_way.append((batch, self._watch.launch(self._executor, batch)))
        except RuntimeError as error:
            if not device_survives(error):
                raise
            self._scheduler.undo(batch)
            while self._under_way:  # a part of the step may have run: no token may be left there
                self._settle(*self._under_way.popleft(), emit)
            self._shed_newest(batch, emit, error)

    def _shed_newest(self, batch: Batch, emit: Emit, cause: RuntimeError) -> None:
        """End whoever came last, so that the others' step may fit."""
        left = [chunk.sequence for chunk in batch.chunks if self._is_here(chunk.sequence)]
        if left:
            newest = max(left, key=lambda sequence: sequence.arrival)
            self._end(newest)
            emit(newest.request.request_id, out_of_memory(newest, cause))

    def _settle(self, batch: Batch, outcome: Outcome, emit: Emit) -> None:
        """Take in what a step brought, once it is there; who has ended meanwhile gets nothing."""
        sampled = outcome()
        self._scheduler.settle(batch, [choice.token_id if choice else None for choice in sampled])
        self._tally.count(batch)
        for sequence, choice in zip(batch.sampling, sampled, strict=True):
            if self._is_here(sequence):
                emit(sequence.request.request_id, self._advance(sequence, choice))
        for chunk in batch.prefilling:
            if chunk.embeds and self._is_here(chunk.sequence):
                emit(chunk.sequence.request.request_id, self._embed(chunk.sequence))

    def _advance(
        self, sequence: Sequence, choice: Sampled | None
    ) -> GenerationDelta | ServingError:
        """What a sequence is sent for its token, with which it may end; or why there is none."""
        if choice is None:  # the scheduler has taken it out
            self._forget(sequence)
            return no_token(sequence)
        delta = self._deltas.write(sequence, choice)
        if sequence.is_finished:
            self._end(sequence)
        return delta

    def _embed(self, sequence: Sequence) -> GenerationDelta | ServingError:
        """End a sequence whose prompt is computed, with what was pooled of it."""
        delta = embedding_delta(sequence)
        if delta is not None:
            self._end(sequence)
            return delta
        self._forget(sequence)
        self._scheduler.discard(sequence)
        return not_finite(sequence)

    def _is_here(self, sequence: Sequence) -> bool:
        """Whether it is still to be answered; another may have come by the same id."""
        return self._sequences.get(sequence.request.request_id) is sequence

    def _end(self, sequence: Sequence) -> None:
        self._forget(sequence)
        self._scheduler.remove(sequence)

    def _forget(self, sequence: Sequence) -> None:
        """Let go of a sequence that the scheduler no longer has, or soon will not."""
        del self._sequences[sequence.request.request_id]
        self._room.note_departure()
