"""A compiled grammar, and one sequence's place in it."""

from __future__ import annotations

from concurrent.futures import Executor, Future

import numpy as np
from llguidance import LLMatcher

from server.engine.constraint import Mask


class Grammar:
    """What sequences start from.

    first: the mask at the beginning. threads: where later masks are worked out.
    """

    def __init__(self, matcher: LLMatcher, first: Mask, threads: Executor) -> None:
        self._matcher = matcher
        self._first = first
        self._threads = threads

    def start(self) -> GrammarMatcher:
        return GrammarMatcher(self._matcher.deep_copy(), self._first, self._threads)


class GrammarMatcher:
    """Follows one sequence; while the model computes a step, a thread computes its mask.

    Rust's matcher has one user at a time: between `take` and the mask it belongs to the thread.
    """

    def __init__(self, matcher: LLMatcher, first: Mask, threads: Executor) -> None:
        self._matcher = matcher
        self._first = first
        self._next: Future[Mask] | None = None
        self._threads = threads
        self.is_over = False
        self.error: str | None = None

    def mask(self) -> Mask:
        """Which tokens may come next; waits for the thread that works it out."""
        return self._first if self._next is None else self._next.result()

    def take(self, token_id: int) -> None:
        """Go on by a token that the mask allows."""
        self.mask()  # the matcher is ours again, even if nobody needed the mask
        self._matcher.consume_token(token_id)
        self._look()
        if not self.is_over:
            self._next = self._threads.submit(self._compute)

    def _compute(self) -> Mask:
        # Rust's mask may be a word longer than the vocabulary.
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.int32)[: len(self._first)]
        self._look()
        return mask if self.error is None else np.zeros_like(mask)

    def _look(self) -> None:
        if self._matcher.is_error():
            self.error = self._matcher.get_error().partition("<state>")[0].strip()
        self.is_over = self.error is None and self._matcher.is_stopped()
