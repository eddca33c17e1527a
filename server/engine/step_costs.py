"""What steps cost, learned from those that ran."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field
from itertools import accumulate
from statistics import median

from server.engine.batch import Batch
from server.engine.executor import Executor, Outcome
from server.engine.sampled import Sampled

MEMORY = 15  # steps of about one size that are remembered
FLATTEST = 0.05  # of what each of a mean step costs, what one more costs at least: nothing is free


@dataclass
class Usual:
    """What the newest steps of about one size took: their median, which those that were held up, or
    had something compiled at first, hardly move."""

    _sizes: deque[int] = field(default_factory=lambda: deque(maxlen=MEMORY))
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=MEMORY))
    size: float = 0.0
    seconds: float = 0.0

    def note(self, size: int, seconds: float) -> None:
        self._sizes.append(size)
        self._seconds.append(seconds)
        self.size = sum(self._sizes) / len(self._sizes)
        self.seconds = median(self._seconds)


@dataclass
class Line:
    """Seconds that grow evenly with a size: `fixed`, and `each` for one more.

    Sizes are told apart by powers of two, and each such class counts alike: so what is known of
    full steps is not forgotten while all are small, and many of one size do not outweigh the rest.
    No class counts as dearer than a larger one: its steps ran at first only, and something was
    made ready in them.
    """

    fixed: float = 0.0
    each: float = 0.0
    _usual: dict[int, Usual] = field(default_factory=dict)

    def at(self, size: int) -> float:
        return self.fixed + self.each * size

    def note(self, size: int, seconds: float) -> None:
        """Take in what one of that size took, and draw the line anew: by least squares."""
        self._usual.setdefault(size.bit_length(), Usual()).note(size, max(0.0, seconds))
        largest_first = [usual for _, usual in sorted(self._usual.items(), reverse=True)]
        sizes = [usual.size for usual in largest_first]
        times = list(accumulate((usual.seconds for usual in largest_first), min))
        size_mean, mean = sum(sizes) / len(sizes), sum(times) / len(times)
        spread = sum((size - size_mean) ** 2 for size in sizes)
        common = sum((size - size_mean) * time for size, time in zip(sizes, times, strict=True))
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
