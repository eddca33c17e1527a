"""From token ids to text that can be sent: whole characters, never a piece of a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Decode = Callable[[Sequence[int]], str]
REPLACEMENT = "�"
MOST_HELD = 16  # tokens that may wait for a character's end
LONGEST = 3  # tokens, of a byte or more, after which a character that has begun is whole


@dataclass
class Detokenizer:
    """Decodes one sequence token by token.

    A token is decoded together with those just before it, because a tokenizer's spaces and bytes
    depend on the neighbours. Text that may still turn out to be the start of a stop string, and
    bytes that do not make a whole character yet, are held back; not bytes that never will, since
    each further token would cost more than the one before. A stop string that the first
    `min_tokens` tokens complete is text like any other.
    """

    decode: Decode
    stop: tuple[str, ...] = ()
    min_tokens: int = 0
    stopped_by: str | None = None
    _num_tokens: int = 0
    _ids: list[int] = field(default_factory=list)  # but for some that have no text
    _context: int = 0  # where the decoded window begins
    _read: int = 0  # ids before this are in `_pending` or sent
    _breaks_off: bool = False  # whether what was read may end inside a character
    _pending: str = ""

    def push(self, token_id: int) -> str:
        """Take one token; return the text that is now certain. A stop string sets `stopped_by`."""
        self._num_tokens += 1
        self._ids.append(token_id)
        before = self._before()
        after = self.decode(self._ids[self._context :])
        if len(after) <= len(before) or after.endswith(REPLACEMENT):
            is_held = len(self._ids) - self._read <= MOST_HELD
            return "" if is_held else self._let_go(len(before))
        self._move_on(len(self._ids), breaks_off=False)
        return self._certain(after[len(before) :])

    def flush(self) -> str:
        """What was held back, at the end of the sequence. Nothing once a stop string was found."""
        if self.stopped_by is not None:
            return ""
        before = self._before()
        after = self.decode(self._ids[self._context :])
        self._context = self._read = len(self._ids)
        text = self._certain(after[len(before) :])
        if self.stopped_by is None:
            text, self._pending = text + self._pending, ""
        return text

    def _before(self) -> str:
        """The window's text that was read; a character that it breaks off in is still to come."""
        text = self.decode(self._ids[self._context : self._read])
        return text.removesuffix(REPLACEMENT) if self._breaks_off else text

    def _let_go(self, num_read: int) -> str:
        """All but the newest of what is held: bytes of no character, or tokens without text.

        So are whole characters, where each token ends in the beginning of one more.

        num_read: characters of the window that were read before.
        """
        end = len(self._ids) - LONGEST
        text = self.decode(self._ids[self._context : end])[num_read:]
        if not text:
            del self._ids[self._read : end]
            return ""
        self._move_on(end, breaks_off=True)
        return self._certain(text.removesuffix(REPLACEMENT))

    def _move_on(self, end: int, *, breaks_off: bool) -> None:
        self._context, self._read, self._breaks_off = self._read, end, breaks_off

    def _certain(self, text: str) -> str:
        pending = self._pending + text
        found = [(at, stop) for stop in self.stop if (at := pending.find(stop)) >= 0]
        if found and self._num_tokens > self.min_tokens:
            at, self.stopped_by = min(found)
            self._pending = ""
            return pending[:at]
        held = max((_overlap(pending, stop) for stop in self.stop), default=0)
        cut = len(pending) - held
        self._pending = pending[cut:]
        return pending[:cut]


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that is a beginning of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
