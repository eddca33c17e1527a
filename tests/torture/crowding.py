"""What adapters with a stream each see while one has very many.

`python -m tests.torture.crowding URL SECONDS TOKENS WORDS SPREAD ADAPTER…` keeps a stream open for
each adapter and prints what they saw as JSON. Guests and crowd are such a process each, so that
neither takes time from the other, nor from the server.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass

import numpy as np

from tests.torture.asking import Outcome, Question, keep_asking

SETTLING = 1.5  # seconds at the beginning of which nothing counts
CROWDED = "a0"
Times = Sequence[float]  # seconds


@dataclass(frozen=True)
class Seen:
    """What some streams saw: first texts, gaps and whole answers of those that were done.

    rate: texts a second; refused: 429s; lost: other streams that did not come to their end.
    """

    first: Times
    gaps: Times
    whole: Times
    rate: float
    refused: int
    lost: int


@dataclass(frozen=True)
class Crowding:
    """What the guests saw, in seconds; and what the crowd got."""

    first: Times
    between: Times
    whole: Times
    crowd_tokens: float  # a second
    refused: float = 0.0  # of the crowd, 429s a second
    lost: int = 0  # streams of guests that did not come to their end

    def line(self, title: str, before: Crowding) -> str:
        """For people: p50 and p95, and how many times the latter of `before` it is."""
        pieces = [
            f"{name} {1000 * p50:7.1f} {1000 * p95:7.1f} ({times:.2f}x)"
            for (name, p50, p95), times in zip(
                (
                    ("first", *_points(self.first)),
                    ("between", *_points(self.between)),
                    ("whole", *_points(self.whole)),
                ),
                self.times_as_long(before),
                strict=True,
            )
        ]
        rest = f"crowd {self.crowd_tokens:.0f} tok/s, {self.refused:.1f} 429/s, lost {self.lost}"
        return f"{title:34} p50, p95 ms: {'; '.join(pieces)}; {rest}; n {len(self.whole)}"

    def times_as_long(self, before: Crowding) -> tuple[float, float, float]:
        """At the 95th percentile: first texts, gaps, whole answers."""
        return (
            _points(self.first)[1] / _points(before.first)[1],
            _points(self.between)[1] / _points(before.between)[1],
            _points(self.whole)[1] / _points(before.whole)[1],
        )


def pooled(runs: Sequence[Crowding]) -> Crowding:
    """What was seen in all of some runs that took the same time."""
    return Crowding(
        first=[seconds for run in runs for seconds in run.first],
        between=[seconds for run in runs for seconds in run.between],
        whole=[seconds for run in runs for seconds in run.whole],
        crowd_tokens=float(np.mean([run.crowd_tokens for run in runs])),
        refused=float(np.mean([run.refused for run in runs])),
        lost=sum(run.lost for run in runs),
    )


def crowding(
    url: str, num_guests: int, num_crowd: int, seconds: float, question: Question
) -> Crowding:
    """So many adapters with a stream each ("a1", "a2", …), beside so many streams of "a0"."""
    names = [f"a{number + 1}" for number in range(num_guests)], [CROWDED] * num_crowd
    asking = [_start(url, adapters, seconds, question) for adapters in names if adapters]
    guests, *crowd = [_finish(process) for process in asking]
    return Crowding(
        first=array("f", guests.first),  # small: the server may be this process
        between=array("f", guests.gaps),
        whole=array("f", guests.whole),
        crowd_tokens=sum(each.rate for each in crowd),
        refused=sum(each.refused for each in crowd) / seconds,
        lost=guests.lost + guests.refused,
    )


def _start(
    url: str, adapters: Sequence[str], seconds: float, question: Question
) -> subprocess.Popen[str]:
    numbers = map(str, (seconds, *astuple(question)))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.torture.crowding", url, *numbers, *adapters],
        stdout=subprocess.PIPE,
        text=True,
    )


def _finish(process: subprocess.Popen[str]) -> Seen:
    printed, _ = process.communicate()
    assert process.returncode == 0, "clients failed"
    return Seen(**json.loads(printed))


def _points(values: Times) -> tuple[float, float]:
    p50, p95 = np.percentile(values, (50, 95))
    return float(p50), float(p95)


def seen(outcomes: Sequence[Outcome], since: float, until: float) -> Seen:
    """By streams that began between these moments; rates are of what came between them."""
    counted = [each for each in outcomes if since < each.ended - each.total < until]
    done = [each for each in counted if each.end == "done"]
    refused = [each for each in counted if each.status == 429]
    texts = sum(since < at < until for each in outcomes for at in _text_times(each))
    return Seen(
        first=[each.first for each in done],
        gaps=[gap for each in done for gap in each.gaps],
        whole=[each.total for each in done],
        rate=texts / (until - since),
        refused=len(refused),
        lost=len(counted) - len(done) - len(refused),
    )


def _text_times(outcome: Outcome) -> Iterator[float]:
    """When its texts came (monotonic)."""
    began = outcome.ended - outcome.total
    return itertools.accumulate(outcome.gaps, initial=began + outcome.first)


def main() -> None:
    url, seconds, num_tokens, num_words, spread, *adapters = sys.argv[1:]
    since = time.monotonic() + SETTLING
    until = since + float(seconds)
    question = Question(int(num_tokens), int(num_words), float(spread))
    outcomes = asyncio.run(keep_asking(url, adapters, question, until=until))
    print(json.dumps(asdict(seen(outcomes, since, until))))


if __name__ == "__main__":
    main()
