"""Which sequences run in the next step, and what becomes of them after it."""

from __future__ import annotations

import time
from bisect import insort
from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from server.engine.batch import Batch, Chunk
from server.engine.fair_turns import FairTurns, Share
from server.engine.kv_cache import BlockPool
from server.engine.request import AdapterRef
from server.engine.sequence import Sequence
from server.engine.waiting import WaitingLines, turn

EXPECTED = 8  # sequences whose adapters are fetched before they can be admitted


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


class Scheduler:
    """Continuous batching with chunked prefill, fair among adapters.

    Decoding sequences go first, one token each. What is left of the step's prompt budget goes to
    prompts in their turns (`FairTurns`), and waiting sequences are admitted to it, those of the
    adapters with the fewest running first; one whose adapter is still loading is passed over and
    holds nobody up. Where places or blocks are wanting, an adapter that has two sequences more than
    another that waits gives its newest up, which waits at the head of its line and finds what it
    computed in the prefix cache. While no more can be admitted, the adapters of those who come next
    are fetched.

    chunk: prompt tokens of a step beside decoding sequences, who wait for them; lone_chunk: of one
    that holds nobody up. patience: steps that new prompts beside decoding sequences wait for others
    whose adapters are on their way, where prompts that come together are computed in one pass.
    adapter_share: what one adapter may have of places and of a chunk while others are asked for,
    0 to 1.
    """

    def __init__(
        self,
        pool: BlockPool,
        adapters: AdapterDoor,
        *,
        max_batch: int,
        chunk: int,
        lone_chunk: int | None = None,
        patience: int = 0,
        adapter_share: float = 1.0,
    ) -> None:
        self._pool = pool
        self._adapters = adapters
        self._max_batch = max_batch
        self._chunk = chunk
        self._lone_chunk = lone_chunk or chunk
        self._patience = patience
        self._num_held = 0  # steps for which the prompts at hand have waited for others
        self._is_awaited = False  # whether anybody waits for an adapter alone
        self._turns = FairTurns()
        self._share = Share(adapter_share)
        self.waiting = WaitingLines()
        self.running: list[Sequence] = []
        self.num_preemptions = 0
        self.num_prefix_hits = 0

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        self._share.note(sequence.adapter_digest)
        self.waiting.add(sequence)

    def next(self) -> Batch:
        """The next step's batch; empty if everything waits for adapters or there is nothing.

        Steps run in the order in which they are made, so its tokens count as computed from here on.
        """
        preempted = self.num_preemptions
        decoding = self._decode()
        budget = self._chunk if decoding else self._lone_chunk
        self._admit_waiting(budget)
        if self.num_preemptions > preempted:
            decoding = [chunk for chunk in decoding if self._still_runs(chunk)]
        prefilling = self._prefill(budget)
        batch = Batch.of(decoding, [] if decoding and self._holds(prefilling) else prefilling)
        for chunk in batch.chunks:
            chunk.sequence.num_computed = chunk.end
            chunk.sequence.num_pending += chunk.samples
        return batch

    def settle(self, batch: Batch, token_ids: Iterable[int | None]) -> None:
        """Take in a step's results: `token_ids` belong to `batch.sampling`, in order.

        None is no token: the sequence is taken out, and nothing it computed is taken up by others.
        """
        for sequence, token_id in zip(batch.sampling, token_ids, strict=True):
            sequence.num_pending -= 1
            if token_id is None:
                self.discard(sequence)
            else:
                sequence.token_ids.append(token_id)
        for chunk in batch.chunks:
            self._publish(chunk.sequence)

    def undo(self, batch: Batch) -> None:
        """Take back the newest step, which could not be begun: nothing of it is computed."""
        for chunk in batch.chunks:
            chunk.sequence.num_computed = chunk.start
            chunk.sequence.num_pending -= chunk.samples

    def remove(self, sequence: Sequence) -> None:
        """Take a finished or aborted sequence out and free what it held."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._give_up(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
            digest = sequence.adapter_digest
            if digest is not None and self.waiting.first(digest) is None:
                self._adapters.unwant(digest)

    def discard(self, sequence: Sequence) -> None:
        """Take a sequence out; nothing that it computed is taken up by others."""
        self._pool.forget(sequence.keys)
        self.remove(sequence)

    def _holds(self, prefilling: Iterable[Chunk]) -> bool:
        """Whether prompts that have just been admitted wait a step for those that come next.

        What has begun goes on, and so does what fills a step.
        """
        are_new = all(chunk.start == chunk.sequence.num_cached for chunk in prefilling)
        are_few = 0 < sum(chunk.num_tokens for chunk in prefilling) < self._chunk
        if self._is_awaited and are_new and are_few and self._num_held < self._patience:
            self._num_held += 1
            return True
        self._num_held = 0
        return False

    def _decode(self) -> list[Chunk]:
        """One token each; some of them may be preempted by those that come after them."""
        chunks, preempted = [], self.num_preemptions
        for sequence in list(self.running):
            if not sequence.is_decoding or sequence.must_wait:
                continue
            runs = self.num_preemptions == preempted or sequence in self.running
            if runs and self._grow(sequence):
                chunks.append(Chunk.of(sequence, 1))
        return chunks

    def _still_runs(self, chunk: Chunk) -> bool:
        """Not so of a sequence that was preempted, even if it was admitted again since."""
        sequence = chunk.sequence
        return sequence in self.running and sequence.num_computed == chunk.start

    def _grow(self, sequence: Sequence) -> bool:
        """Room for the newest token, at the cost of newer sequences if need be."""
        while self._pool.blocks_for(sequence.num_tokens) > len(sequence.blocks):
            blocks = self._pool.allocate(1)
            if blocks is not None:
                sequence.blocks += blocks
                continue
            newest = self._least_owed()
            self._preempt(newest)
            if newest is sequence:
                return False
        return True

    def _least_owed(self) -> Sequence:
        """Who gives way: of the adapter with the most running, the newest."""
        running = Counter(sequence.adapter_digest for sequence in self.running)
        return max(self.running, key=lambda each: (running[each.adapter_digest], each.arrival))

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._give_up(sequence)
        self.waiting.put_back(sequence)
        self.num_preemptions += 1

    def _prefill(self, budget: int) -> list[Chunk]:
        """The budget to the running prompts in their turns, each adapter within its share."""
        prompts = self._prompts()
        spent: Counter[str | None] = Counter()
        chunks = []
        for sequence in prompts:
            digest = sequence.adapter_digest
            own = self._limit(digest, self._chunk, budget) - spent[digest]
            left = min(own, budget - spent.total())
            if left > 0:
                chunks.append(Chunk.of(sequence, left))
                spent[digest] += chunks[-1].num_tokens
        wanting = len({sequence.adapter_digest for sequence in prompts})
        self._turns.advance(spent.total(), wanting)
        return chunks

    def _prompts(self) -> list[Sequence]:
        """Running sequences that have more to compute than their newest token, in their turns."""
        unfinished = (
            sequence
            for sequence in self.running
            if not sequence.is_decoding and sequence.num_uncomputed
        )
        return sorted(unfinished, key=lambda sequence: sequence.turn)

    def _admit_waiting(self, budget: int) -> None:
        """Admit sequences in their turn; a line whose adapter is not there is passed over."""
        self._is_awaited = False
        if not self.waiting:
            return
        running = Counter(sequence.adapter_digest for sequence in self.running)
        heads, later = self.waiting.heads(running), list[Sequence]()
        prompts = self._prompts()
        while heads and self._has_place_for(heads[0].adapter_digest, running):
            sequence = heads.pop(0)
            digest = sequence.adapter_digest
            if not self._would_be_computed(sequence, budget, running[digest], prompts):
                later.append(sequence)
                continue
            if sequence.num_pending:
                continue
            if not self._enter(sequence):
                self._is_awaited = True
                continue
            if not self._take_in(sequence, running):
                self._leave(sequence)
                break
            running[digest] += 1
            prompts = self._prompts()
            if (following := self.waiting.first(digest)) is not None:
                insort(heads, following, key=lambda waiting: turn(waiting, running))
        self._expect((later + heads)[:EXPECTED])

    def _has_place_for(self, digest: str | None, running: Counter[str | None]) -> bool:
        """Whether there is a place, or somebody whose place it is rather than theirs."""
        return len(self.running) < self._max_batch or self._owes(running, digest) is not None

    def _would_be_computed(
        self, sequence: Sequence, budget: int, num_running: int, prompts: Iterable[Sequence]
    ) -> bool:
        """Whether this step has a place and prompt tokens for it within its adapter's share.

        prompts: of those that run, what is left to compute.
        """
        digest = sequence.adapter_digest
        if num_running >= self._limit(digest, self._max_batch, self._max_batch):
            return False
        its = self._turns.next(digest, sequence.num_tokens)
        earlier = [prompt for prompt in prompts if prompt.turn <= its]
        of_its_own = sum(p.num_uncomputed for p in earlier if p.adapter_digest == digest)
        if of_its_own >= self._limit(digest, self._chunk, budget):
            return False
        return sum(prompt.num_uncomputed for prompt in earlier) < budget

    def _limit(self, digest: str | None, whole: int, alone: int) -> int:
        """What an adapter may have of `whole`; `alone` where no other is asked for."""
        if not self._share.limits:
            return alone
        beside = any(other.adapter_digest != digest for other in self.running)
        share = self._share.of(digest, whole, beside=beside)
        return alone if share == whole else share

    def _take_in(self, sequence: Sequence, running: Counter[str | None]) -> bool:
        """Admit it, if need be in the place of others whose adapter has more than its own."""
        while len(self.running) >= self._max_batch or not self._admit(sequence):
            newest = self._owes(running, sequence.adapter_digest)
            if newest is None:
                return False
            self._preempt(newest)
            running[newest.adapter_digest] -= 1
        sequence.turn = self._turns.take(sequence.adapter_digest, sequence.num_uncomputed)
        return True

    def _owes(self, running: Counter[str | None], digest: str | None) -> Sequence | None:
        """Whose place somebody else's is: of the adapter with the most running, the newest."""
        most = max(running.values(), default=0)
        if most < running[digest] + 2:
            return None
        return max(
            (each for each in self.running if running[each.adapter_digest] == most),
            key=lambda each: each.arrival,
        )

    def _expect(self, sequences: Iterable[Sequence]) -> None:
        """Have adapters fetched while those who wait for them cannot be admitted anyway."""
        for sequence in sequences:
            if sequence.request.adapter is not None:
                self._adapters.expect(sequence.request.adapter)

    def _enter(self, sequence: Sequence) -> bool:
        adapter = sequence.request.adapter
        if adapter is None:
            return True
        asked_at = time.monotonic()
        sequence.slot = self._adapters.enter(adapter)
        sequence.note_adapter(asked_at)
        return sequence.slot is not None

    def _leave(self, sequence: Sequence) -> None:
        if sequence.adapter_digest is not None and sequence.slot is not None:
            self._adapters.leave(sequence.adapter_digest)
        sequence.slot = None

    def _admit(self, sequence: Sequence) -> bool:
        """Blocks for everything said so far; those of a known prefix are taken up again."""
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
        return True

    @property
    def _reserve(self) -> int:
        """Blocks that must be left over: one for each that runs, and for whoever joins them.

        It is what they need next. Without it, a newcomer's prompt is computed only to be preempted
        a few steps later.
        """
        return len(self.running) + 1 if self.running else 0

    def _publish(self, sequence: Sequence) -> None:
        size = self._pool.block_size
        if sequence.num_computed // size <= sequence.num_published:
            return  # as in most steps
        keys = sequence.block_keys(size)[: sequence.num_computed // size]
        for index in range(sequence.num_published, len(keys)):
            if sequence.request.pooling == "mean":
                break  # no other of its kind takes it up, and it would drive out what others do
            self._pool.publish(sequence.blocks[index], keys[index])
        sequence.num_published = len(keys)

    def _give_up(self, sequence: Sequence) -> None:
        self._pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.num_computed = sequence.num_published = 0
        self._leave(sequence)
