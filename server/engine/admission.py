"""Which of those who wait are admitted to the next step, and at whose cost."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable

from server.engine.fair_turns import FairTurns, Share
from server.engine.places import AdapterDoor, Places
from server.engine.sequence import Sequence
from server.engine.waiting import turn

EXPECTED = 8  # sequences whose adapters are fetched before they can be admitted


class Admission:
    """Admits waiting sequences, those of the adapters with the fewest running first.

    One whose adapter is still loading is passed over and holds nobody up. Where places or blocks
    are wanting, an adapter that has two sequences more than another that waits gives its newest
    up. While no more can be admitted, the adapters of those who come next are fetched.

    chunk: prompt tokens of a step beside decoding sequences.
    """

    def __init__(
        self, places: Places, adapters: AdapterDoor, turns: FairTurns, share: Share, *, chunk: int
    ) -> None:
        self._places = places
        self._adapters = adapters
        self._turns = turns
        self._share = share
        self._chunk = chunk
        self.is_awaited = False  # whether anybody waits for an adapter alone

    def admit(self, budget: int) -> None:
        """Admit sequences in their turn; a line whose adapter is not there is passed over.

        budget: prompt tokens that the step has for them and for those that run.
        """
        places, waiting = self._places, self._places.waiting
        self.is_awaited = False
        if not waiting:
            return
        running = places.by_adapter()
        heads, later = waiting.heads(running), list[Sequence]()
        prompts = places.prompts()
        while heads and self._has_place_for(heads[0].adapter_digest, running):
            sequence = heads.pop(0)
            digest = sequence.adapter_digest
            if not self._would_be_computed(sequence, budget, running[digest], prompts):
                later.append(sequence)
                continue
            if sequence.num_pending:
                continue
            if not places.enter(sequence):
                self.is_awaited = True
                continue
            if not self._take_in(sequence, running):
                places.leave(sequence)
                break
            running[digest] += 1
            prompts = places.prompts()
            if (following := waiting.first(digest)) is not None:
                insort(heads, following, key=lambda waiting: turn(waiting, running))
        self._expect((later + heads)[:EXPECTED])

    def limit(self, digest: str | None, whole: int, alone: int) -> int:
        """What an adapter may have of `whole`; `alone` where no other is asked for."""
        if not self._share.limits:
            return alone
        beside = any(other.adapter_digest != digest for other in self._places.running)
        share = self._share.of(digest, whole, beside=beside)
        return alone if share == whole else share

    def _has_place_for(self, digest: str | None, running: Counter[str | None]) -> bool:
        """Whether there is a place, or somebody whose place it is rather than theirs."""
        return not self._places.are_taken or self._owes(running, digest) is not None

    def _would_be_computed(
        self, sequence: Sequence, budget: int, num_running: int, prompts: Iterable[Sequence]
    ) -> bool:
        """Whether this step has a place and prompt tokens for it within its adapter's share.

        prompts: of those that run, what is left to compute.
        """
        digest, max_batch = sequence.adapter_digest, self._places.max_batch
        if num_running >= self.limit(digest, max_batch, max_batch):
            return False
        its = self._turns.next(digest, sequence.num_tokens)
        earlier = [prompt for prompt in prompts if prompt.turn <= its]
        of_its_own = sum(p.num_uncomputed for p in earlier if p.adapter_digest == digest)
        if of_its_own >= self.limit(digest, self._chunk, budget):
            return False
        return sum(prompt.num_uncomputed for prompt in earlier) < budget

    def _take_in(self, sequence: Sequence, running: Counter[str | None]) -> bool:
        """Admit it, if need be in the place of others whose adapter has more than its own."""
        while self._places.are_taken or not self._places.admit(sequence):
            newest = self._owes(running, sequence.adapter_digest)
            if newest is None:
                return False
            self._places.preempt(newest)
            running[newest.adapter_digest] -= 1
        sequence.turn = self._turns.take(sequence.adapter_digest, sequence.num_uncomputed)
        return True

    def _owes(self, running: Counter[str | None], digest: str | None) -> Sequence | None:
        """Whose place somebody else's is: of the adapter with the most running, the newest."""
        most = max(running.values(), default=0)
        if most < running[digest] + 2:
            return None
        return max(
            (each for each in self._places.running if running[each.adapter_digest] == most),
            key=lambda each: each.arrival,
        )

    def _expect(self, sequences: Iterable[Sequence]) -> None:
        """Have adapters fetched while those who wait for them cannot be admitted anyway."""
        for sequence in sequences:
            if sequence.request.adapter is not None:
                self._adapters.expect(sequence.request.adapter)
