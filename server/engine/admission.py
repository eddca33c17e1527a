"""Which of those who wait are admitted to the next step, and at whose cost."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable

from server.engine.bound import Bound
from server.engine.fair_turns import FairTurns
from server.engine.places import AdapterDoor, Places
from server.engine.sequence import Sequence
from server.engine.waiting import turn

EXPECTED = 8  # sequences whose adapters are fetched before they can be admitted


class Admission:
    """Admits waiting sequences, those of the adapters with the fewest running first.

    One whose adapter is still loading is passed over and holds nobody up. Where places or blocks
    are wanting, one of an adapter that has less than an equal part of the batch takes the place of
    the newest of the adapter that has most. While no more can be admitted, the adapters of those
    who come next are fetched.
    """

    def __init__(self, places: Places, adapters: AdapterDoor, turns: FairTurns) -> None:
        self._places = places
        self._adapters = adapters
        self._turns = turns
        self.is_awaited = False  # whether anybody waits for an adapter alone

    def admit(self, budget: int, bound: Bound) -> None:
        """Admit sequences in their turn; a line whose adapter is not there is passed over.

        budget: prompt tokens that the step has for them and for those that run.
        """
        places, waiting = self._places, self._places.waiting
        self.is_awaited = False
        if not waiting:
            return
        heads, later = waiting.heads(places.accounts), list[Sequence]()
        prompts = bound.free(places.prompts(), places.running)
        while heads and self._has_place_for(heads[0]):
            sequence = heads.pop(0)
            if heads and self._turn(sequence) > self._turn(heads[0]):
                insort(heads, sequence, key=self._turn)  # another of its account was admitted
            elif not bound.admits(sequence.account, places.accounts[sequence.account]) or (
                not self._would_be_computed(sequence, budget, prompts, bound)
            ):
                later.append(sequence)
            elif sequence.num_pending:
                pass  # what it has been given is not known yet
            elif not places.enter(sequence):
                self.is_awaited = True
            elif not self._take_in(sequence):
                places.turn_away(sequence)
                break
            else:
                prompts = bound.free(places.prompts(), places.running)
                if (following := waiting.first(sequence.adapter_digest)) is not None:
                    insort(heads, following, key=self._turn)
        self._expect((later + heads)[:EXPECTED])

    def _turn(self, sequence: Sequence) -> tuple[int, float]:
        return turn(sequence, self._places.accounts)

    def _has_place_for(self, sequence: Sequence) -> bool:
        """Whether there is a place, or somebody whose place it is rather than theirs."""
        return not self._places.are_taken or self._owes(sequence) is not None

    def _would_be_computed(
        self, sequence: Sequence, budget: int, prompts: list[Sequence], bound: Bound
    ) -> bool:
        """Whether this step has prompt tokens for it. prompts: of those that run, its others."""
        its = self._turns.next(sequence.account, sequence.num_tokens)
        earlier = Counter[str | None]()
        for prompt in prompts:
            if prompt.turn <= its:
                earlier[prompt.account] += prompt.num_uncomputed
        most = bound.tokens_of_one(prompts)
        taken = sum(min(most, num_tokens) for num_tokens in earlier.values())
        return earlier[sequence.account] < most and taken < budget

    def _take_in(self, sequence: Sequence) -> bool:
        """Admit it, if need be in the place of others whose account has more than its own."""
        while self._places.are_taken or not self._places.admit(sequence):
            newest = self._owes(sequence)
            if newest is None:
                return False
            self._places.preempt(newest)
        sequence.turn = self._turns.take(sequence.account, sequence.num_uncomputed)
        return True

    def _owes(self, sequence: Sequence) -> Sequence | None:
        """Whose place somebody else's is: of the account with the most running, the newest.

        Nobody's for one whose account has its equal part: where many wait for few places, one
        would give way to the other in turns, and both come to their end later.
        """
        running = self._places.accounts
        own, most = running[sequence.account], max(running.values(), default=0)
        if own >= self._equal_part or most < own + 2:
            return None
        return max(
            (each for each in self._places.running if running[each.account] == most),
            key=lambda each: each.arrival,
        )

    @property
    def _equal_part(self) -> int:
        """Places that each account would have if all who run or wait had as many; at least one."""
        accounts = self._places.accounts.keys() | self._places.waiting.accounts.keys()
        return max(1, self._places.max_batch // len(accounts))

    def _expect(self, sequences: Iterable[Sequence]) -> None:
        """Have adapters fetched while those who wait for them cannot be admitted anyway."""
        for sequence in sequences:
            if sequence.request.adapter is not None:
                self._adapters.expect(sequence.request.adapter)
