"""Who runs, what that takes, and what becomes of it when somebody leaves."""

from __future__ import annotations

import time
from typing import Protocol

from server.engine.kv_cache import BlockPool
from server.engine.present import Present
from server.engine.request import AdapterRef
from server.engine.sequence import Sequence
from server.engine.waiting import WaitingLines


class AdapterDoor(Protocol):
    """Where the scheduler asks whether a sequence's adapter is in a slot."""

    def enter(self, adapter: AdapterRef) -> int | None:
        """The adapter's slot, counted as in use; None (and a load under way) if it has none yet."""
        ...

    def leave(self, digest: str) -> None:
        """One sequence fewer uses the adapter's slot."""
        ...

    def expect(self, adapter: AdapterRef) -> None:
        """A sequence will ask for the adapter as soon as there is a place for it."""
        ...

    def unwant(self, digest: str) -> None:
        """No sequence waits for the adapter any longer."""
        ...


class Places:
    """The batch's places: whoever has one also holds KV blocks and, with an adapter, its slot.

    Whoever is preempted waits at the head of its line, finds what it computed in the prefix cache,
    and keeps its slot: its adapter does not leave before it has come to its end.
    """

    def __init__(self, pool: BlockPool, adapters: AdapterDoor, *, max_batch: int) -> None:
        self._pool = pool
        self._adapters = adapters
        self.max_batch = max_batch
        self.waiting = WaitingLines()
        self.running: list[Sequence] = []
        self.accounts = Present[str | None]()  # how many of each run
        self.num_preemptions = 0
        self.num_prefix_hits = 0

    @property
    def are_taken(self) -> bool:
        return len(self.running) >= self.max_batch

    def prompts(self) -> list[Sequence]:
        """Running sequences that have more to compute than their newest token, in their turns."""
        unfinished = (
            sequence
            for sequence in self.running
            if not sequence.is_decoding and sequence.num_uncomputed
        )
        return sorted(unfinished, key=lambda sequence: sequence.turn)

    def enter(self, sequence: Sequence) -> bool:
        """Take up its adapter's slot; False (and a load under way) if the adapter has none yet."""
        adapter = sequence.request.adapter
        if adapter is None or sequence.slot is not None:
            return True
        asked_at = time.monotonic()
        sequence.slot = self._adapters.enter(adapter)
        sequence.note_adapter(asked_at)
        return sequence.slot is not None

    def turn_away(self, sequence: Sequence) -> None:
        """One that entered finds no place yet: its slot is free for others, if it never ran."""
        if not sequence.was_admitted:
            self._leave(sequence)

    def admit(self, sequence: Sequence) -> bool:
        """Blocks for everything said so far; those of a known prefix are taken up again.

        False if there are too few.
        """
        size = self._pool.block_size
        reusable = (sequence.num_tokens - 1) // size
        if sequence.needs_every_row:
            reusable = 0  # a prefix that is taken up again has no logits and no hidden states
        reused = self._pool.reuse(sequence.block_keys(size)[:reusable])
        needed = self._pool.blocks_for(sequence.num_tokens) - len(reused)
        if needed + self._reserve > self._pool.num_free:
            self._pool.release(reused)
            return False
        fresh = self._pool.allocate(needed)
        assert fresh is not None
        sequence.blocks = reused + fresh
        sequence.num_computed = len(reused) * size
        if not sequence.was_admitted:
            sequence.was_admitted = True
            sequence.num_cached = sequence.num_computed
            sequence.note_admission()
            self.num_prefix_hits += sequence.num_computed
        self.waiting.remove(sequence)
        self.running.append(sequence)
        self.accounts[sequence.account] += 1
        return True

    def grow(self, sequence: Sequence) -> bool:
        """Room for the newest token, at the cost of newer sequences, or in the end its own."""
        while self._pool.blocks_for(sequence.num_tokens) > len(sequence.blocks):
            blocks = self._pool.allocate(1)
            if blocks is not None:
                sequence.blocks += blocks
                continue
            newest = self._least_owed()
            self.preempt(newest)
            if newest is sequence:
                return False
        return True

    def preempt(self, sequence: Sequence) -> None:
        """Take place and blocks of a running sequence; it is the next of its line."""
        self._stop(sequence)
        self.waiting.put_back(sequence)
        self.num_preemptions += 1

    def remove(self, sequence: Sequence) -> None:
        """Take a finished or aborted sequence out and free what it held."""
        if sequence in self.running:
            self._stop(sequence)
            self._leave(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
            self._leave(sequence)
            digest = sequence.adapter_digest
            if digest is not None and self.waiting.first(digest) is None:
                self._adapters.unwant(digest)

    def discard(self, sequence: Sequence) -> None:
        """Take a sequence out; nothing that it computed is taken up by others."""
        self._pool.forget(sequence.keys)
        self.remove(sequence)

    def publish(self, sequence: Sequence) -> None:
        """Let others take up the blocks that are computed whole."""
        size = self._pool.block_size
        if sequence.num_computed // size <= sequence.num_published:
            return  # as in most steps
        keys = sequence.block_keys(size)[: sequence.num_computed // size]
        for index in range(sequence.num_published, len(keys)):
            if sequence.request.pooling == "mean":
                break  # no other of its kind takes it up, and it would drive out what others do
            self._pool.publish(sequence.blocks[index], keys[index])
        sequence.num_published = len(keys)

    @property
    def _reserve(self) -> int:
        """Blocks that must be left over: one for each that runs, and for whoever joins them.

        It is what they need next. Without it, a newcomer's prompt is computed only to be preempted
        a few steps later.
        """
        return len(self.running) + 1 if self.running else 0

    def _least_owed(self) -> Sequence:
        """Who gives way: of the adapter with the most running, the newest."""
        return max(self.running, key=lambda each: (self.accounts[each.account], each.arrival))

    def _stop(self, sequence: Sequence) -> None:
        """Its place and its blocks are free for others."""
        self.running.remove(sequence)
        self.accounts.take(sequence.account)
        self._pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.num_computed = sequence.num_published = 0

    def _leave(self, sequence: Sequence) -> None:
        """Give its adapter's slot up."""
        if sequence.adapter_digest is not None and sequence.slot is not None:
            self._adapters.leave(sequence.adapter_digest)
        sequence.slot = None
