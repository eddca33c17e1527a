"""What steps cost, learned from those that ran."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field

from server.engine.batch import Batch
from server.engine.executor import Executor, Outcome
from server.engine.sampled import Sampled

MEMORY = 64  # steps of about one size, after which the older ones count for less
OUTLIER = 2.0  # times the usual, beyond which a step tells no more: it was interrupted, or compiled
FLATTEST = 0.001  # of a step, what one more costs at least: nothing is free
FEW = 4  # steps of about one size, before which nothing is an outlier


@dataclass
class Usual:
    """Means of what was seen at about one size."""

    count: int = 0
    size: float = 0.0
    seconds: float = 0.0

    def note(self, size: float, seconds: float) -> None:
        if self.count >= FEW:
            seconds = min(seconds, OUTLIER * self.seconds)
        self.count = min(self.count + 1, MEMORY)
        self.size += (size - self.size) / self.count
        self.seconds += (seconds - self.seconds) / self.count


@dataclass
class Line:
    """Seconds that grow evenly with a size: `fixed`, and `each` for one more.

    Sizes are told apart by powers of two, and each such class counts alike: so what is known of
    full steps is not forgotten while all are small, and many of one size do not outweigh the rest.
    """

    fixed: float = 0.0
    each: float = 0.0
    _usual: dict[int, Usual] = field(default_factory=dict)

    def at(self, size: int) -> float:
        return self.fixed + self.each * size

    def note(self, size: int, seconds: float) -> None:
        """Take in what one of that size took, and draw the line anew: by least squares."""
        self._usual.setdefault(size.bit_length(), Usual()).note(size, max(0.0, seconds))
        seen = self._usual.values()
        size_mean = sum(usual.size for usual in seen) / len(seen)
        mean = sum(usual.seconds for usual in seen) / len(seen)
        spread = sum((usual.size - size_mean) ** 2 for usual in seen)
        common = sum((usual.size - size_mean) * usual.seconds for usual in seen)
        steepest = mean / size_mean  # nothing is fixed; taken as true until two sizes are known
        slope = common / spread if spread else steepest
        self.each = min(max(slope, FLATTEST * steepest), steepest)
        self.fixed = mean - self.each * size_mean


@dataclass
class StepCosts:
    """decode: seconds of a step by the sequences that decode in it; prompts: what it takes longer
    with a pass over so many prompt tokens."""

    decode: Line = field(default_factory=Line)
    prompts: Line = field(default_factory=Line)

    def of(self, num_decoding: int, num_prompt_tokens: int) -> float:
        """Seconds of a step."""
        decode = self.decode.at(num_decoding) if num_decoding else 0.0
        return decode + (self.prompts.at(num_prompt_tokens) if num_prompt_tokens else 0.0)

    def note(self, num_decoding: int, num_prompt_tokens: int, seconds: float) -> None:
        """Learn from a step."""
        if num_prompt_tokens:
            self.prompts.note(num_prompt_tokens, seconds - self.of(num_decoding, 0))
        elif num_decoding:
            self.decode.note(num_decoding, seconds)


@dataclass
class StepWatch:
    """Times steps from the end of one to the end of the next, where their outcomes are read.

    So what follows a step counts too: its tokens become text and go to whoever asked, which holds
    the next step up where there is no device to run it meanwhile. After a rest a step begins with
    its launch.
    """

    costs: StepCosts
    clock: Callable[[], float]
    _read_at: float = 0.0  # the newest outcome
    _has_rested: bool = True

    def launch(self, executor: Executor, batch: Batch) -> Outcome:
        """Begin a step."""
        launched_at, has_rested = self.clock(), self._has_rested
        outcome = executor.launch(batch)
        self._has_rested = False
        num_decoding = len(batch.decoding)
        num_prompt_tokens = batch.num_tokens - num_decoding

        def timed() -> Rows[Sampled | None]:
            sampled = outcome()
            began = max(launched_at, self._read_at) if has_rested else self._read_at
            self._read_at = self.clock()
            self.costs.note(num_decoding, num_prompt_tokens, self._read_at - began)
            return sampled

        return timed

    def rest(self) -> None:
        """Nothing is to be computed for now."""
        self._has_rested = True
