"""Where answers could be ended, in memory that outlives the process that notes it."""

from __future__ import annotations

import mmap
import os
from enum import Enum, auto

WORDS = 32  # of 8 bytes, for each connection
_ASKED, _ENDING, _FIRST = 0, 1, 2
NUM_PLACES = 16  # newest ends of events that are kept; a loop's round seldom writes as many
_NEVER = (1 << 64) - 1


class Place(Enum):
    """Where in a connection's bytes one may stand, and so what could be said next."""

    NOWHERE = auto()  # amid something, or between two requests
    UNANSWERED = auto()  # a request was asked, and of its answer there is nothing
    BETWEEN_EVENTS = auto()  # a stream of events has begun, and the next chunk could be any
    BEFORE_LAST_CHUNK = auto()  # all events are there, but not what ends the body


class Page:
    """One connection's notes. A count is of all bytes that were written on it, so none comes twice.

    Each note is one word: whoever dies while it writes leaves the old one or the new one.
    """

    __slots__ = ("_newest", "_words")

    def __init__(self, words: memoryview[int]) -> None:
        self._words = words
        self._newest = _FIRST

    def clear(self) -> None:
        for index in range(_FIRST + NUM_PLACES):
            self._words[index] = _NEVER

    def asked(self, count: int) -> None:
        """A request has come, whose answer begins after so many bytes."""
        self._words[_ASKED] = count

    def between_events(self, count: int) -> None:
        """After so many bytes an event, or a stream's head, is whole."""
        self._words[self._newest] = count
        newest = self._newest + 1
        self._newest = newest if newest < _FIRST + NUM_PLACES else _FIRST

    def ending(self, count: int) -> None:
        """After so many bytes nothing but the last chunk is missing."""
        self._words[_ENDING] = count

    def place_at(self, count: int) -> Place:
        """What the notes say of so many bytes."""
        if count == self._words[_ASKED]:
            return Place.UNANSWERED
        if count == self._words[_ENDING]:
            return Place.BEFORE_LAST_CHUNK
        if count in self._words[_FIRST : _FIRST + NUM_PLACES].tolist():
            return Place.BETWEEN_EVENTS
        return Place.NOWHERE


class Pages:
    """A page for each of so many connections. Memory is taken for those that are used."""

    def __init__(self, file: int) -> None:
        """Map a file that `create_file` made, maybe in another process."""
        self.num_pages = os.fstat(file).st_size // (WORDS * 8)
        self._words = memoryview(mmap.mmap(file, 0)).cast("Q")

    def __getitem__(self, number: int) -> Page:
        return Page(self._words[number * WORDS : (number + 1) * WORDS])


def create_file(num_pages: int) -> int:
    """A file of no folder, gone with the last process that has it open. OSError."""
    file = os.memfd_create("last-words")
    os.ftruncate(file, num_pages * WORDS * 8)
    return file
