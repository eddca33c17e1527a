"""What is computed in the next step, and what becomes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from server.engine.admission import Admission
from server.engine.batch import Batch, Chunk
from server.engine.bound import Bound
from server.engine.fair_time import FairTime
from server.engine.fair_turns import FairTurns
from server.engine.kv_cache import BlockPool
from server.engine.places import AdapterDoor, Places
from server.engine.sequence import Sequence
from server.engine.step_costs import StepCosts

SMALL_PIECE = 16  # prompt tokens


class Scheduler:
    """Continuous batching with chunked prefill, fair among adapters.

    Decoding sequences go first, one token each. What is left of the step's prompt budget goes to
    prompts in their turns (`FairTurns`), and waiting sequences are admitted to it (`Admission`).

    chunk: prompt tokens of a step beside decoding sequences, who wait for them; lone_chunk: of one
    that holds nobody up. patience: steps that new prompts beside decoding sequences wait for others
    whose adapters are on their way, where prompts that come together are computed in one pass.
    fair_time: what binds an adapter while others are asked for too; None: nothing.
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
        fair_time: FairTime | None = None,
    ) -> None:
        self._chunk = chunk
        self._lone_chunk = lone_chunk or chunk
        self._patience = patience
        self._num_held = 0  # steps for which the prompts at hand have waited for others
        self._turns = FairTurns()
        self.fair_time = fair_time or FairTime(1.0, StepCosts(), chunk=chunk)
        self._places = Places(pool, adapters, max_batch=max_batch)
        self._admission = Admission(self._places, adapters, self._turns)
        self.waiting, self.running = self._places.waiting, self._places.running

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    @property
    def num_preemptions(self) -> int:
        return self._places.num_preemptions

    @property
    def num_prefix_hits(self) -> int:
        """Prompt tokens taken from the prefix cache."""
        return self._places.num_prefix_hits

    def add(self, sequence: Sequence) -> None:
        self.fair_time.note(sequence.account)
        self.waiting.add(sequence)

    def next(self) -> Batch:
        """The next step's batch; empty if everything waits for adapters or there is nothing.

        Steps run in the order in which they are made, so its tokens count as computed from here on.
        """
        preempted = self.num_preemptions
        bound = self.fair_time.bound(self._places.accounts, self.waiting.accounts)
        decoding = self._decode(bound)
        budget = self._chunk if decoding else self._lone_chunk
        self._admission.admit(budget, bound)
        if self.num_preemptions > preempted:
            decoding = [chunk for chunk in decoding if self._still_runs(chunk)]
        prefilling = self._prefill(budget, bound)
        further = self._prefill_further(budget, bound, decoding, prefilling)
        if decoding and self._holds(prefilling + further):
            prefilling, further = [], []
        if prefilling or further:
            self._advance(decoding, prefilling, further)
        batch = Batch.of(decoding, prefilling + further)
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
            self._places.publish(chunk.sequence)

    def undo(self, batch: Batch) -> None:
        """Take back the newest step, which could not be begun: nothing of it is computed."""
        for chunk in batch.chunks:
            chunk.sequence.num_computed = chunk.start
            chunk.sequence.num_pending -= chunk.samples

    def remove(self, sequence: Sequence) -> None:
        """Take a finished or aborted sequence out and free what it held."""
        self.fair_time.note(sequence.account)
        self._places.remove(sequence)

    def discard(self, sequence: Sequence) -> None:
        """Take a sequence out; nothing that it computed is taken up by others."""
        self.fair_time.note(sequence.account)
        self._places.discard(sequence)

    def _holds(self, prefilling: Iterable[Chunk]) -> bool:
        """Whether prompts that have just been admitted wait a step for those that come next.

        What has begun goes on, and so does what fills a step.
        """
        are_new = all(chunk.start == chunk.sequence.num_cached for chunk in prefilling)
        are_few = 0 < sum(chunk.num_tokens for chunk in prefilling) < self._chunk
        is_awaited = self._admission.is_awaited
        if is_awaited and are_new and are_few and self._num_held < self._patience:
            self._num_held += 1
            return True
        self._num_held = 0
        return False

    def _decode(self, bound: Bound) -> list[Chunk]:
        """One token each; some of them may be preempted by those that come after them."""
        chunks, preempted = [], self.num_preemptions
        resting = bound.resting(self.running)
        for sequence in list(self.running):
            if not sequence.is_decoding or sequence.must_wait or sequence in resting:
                continue
            runs = self.num_preemptions == preempted or sequence in self.running
            if runs and self._places.grow(sequence):
                chunks.append(Chunk.of(sequence, 1))
        return chunks

    def _still_runs(self, chunk: Chunk) -> bool:
        """Not so of a sequence that was preempted, even if it was admitted again since."""
        sequence = chunk.sequence
        return sequence in self.running and sequence.num_computed == chunk.start

    def _prefill(self, budget: int, bound: Bound) -> list[Chunk]:
        """The budget to the running prompts in their turns, each account within its bound."""
        prompts = bound.free(self._places.prompts(), self.running)
        most = bound.tokens_of_one(prompts)
        spent: Counter[str | None] = Counter()
        chunks = []
        for sequence in prompts:
            left = min(most - spent[sequence.account], budget - spent.total())
            if left > 0:
                chunks.append(Chunk.of(sequence, left))
                spent[sequence.account] += chunks[-1].num_tokens
        return chunks

    def _prefill_further(
        self, budget: int, bound: Bound, decoding: list[Chunk], prefilling: list[Chunk]
    ) -> list[Chunk]:
        """What the others leave of it to the prompts of the busiest account's further sequences."""
        further = bound.further(self.running)
        if not further:
            return []
        num_tokens = sum(chunk.num_tokens for chunk in prefilling)
        left, least = budget - num_tokens, 1
        if not bound.has_pass:  # a piece costs more than its tokens: small ones wait for a pass
            left = min(left, self.fair_time.tokens_beside(len(decoding), num_tokens))
            least = SMALL_PIECE
        chunks: list[Chunk] = []
        for sequence in self._places.prompts():
            if left >= min(least, sequence.num_uncomputed) and sequence in further:
                chunks.append(Chunk.of(sequence, left))
                left -= chunks[-1].num_tokens
        return chunks

    def _advance(
        self, decoding: list[Chunk], prefilling: list[Chunk], further: list[Chunk]
    ) -> None:
        """Take note of prompt tokens that are computed: others' turns come nearer."""
        num_tokens, num_further = (sum(c.num_tokens for c in cs) for cs in (prefilling, further))
        wanting = len({sequence.account for sequence in self._places.prompts()})
        self._turns.advance(num_tokens + num_further, wanting)
        if num_further:
            self.fair_time.charge(num_further, len(decoding), num_tokens)
