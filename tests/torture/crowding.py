"""What adapters with a stream each see while one has very many.

`python -m tests.torture.crowding URL GUESTS CROWD SECONDS TOKENS WORDS` prints it as JSON: GUESTS
adapters with a stream each ("a1", "a2", …), beside CROWD streams of "a0".
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tests.torture.asking import Outcome, Question, keep_asking
from tests.torture.soak import Soak

SETTLING = 1.5  # seconds at the beginning of which nothing counts
CROWDED = "a0"


@dataclass(frozen=True)
class Crowding:
    """p50 and p95 of what the guests saw, in seconds; and what the crowd got.

    refused: of the crowd, 429s a second; lost: streams of guests that did not come to their end.
    """

    first: tuple[float, float]
    between: tuple[float, float]
    whole: tuple[float, float]
    crowd_tokens: float  # a second
    refused: float
    lost: int

    def line(self, title: str, alone: Crowding) -> str:
        """For people; beside p95 how many times that of the guests alone it is."""
        pairs = [
            f"{name} {1000 * now[0]:7.1f} {1000 * now[1]:7.1f} ({now[1] / before[1]:.2f}x)"
            for name, now, before in (
                ("first", self.first, alone.first),
                ("between", self.between, alone.between),
                ("whole", self.whole, alone.whole),
            )
        ]
        rest = f"crowd {self.crowd_tokens:.0f} tok/s, {self.refused:.1f} 429/s, lost {self.lost}"
        return f"{title:34} p50, p95 ms: {'; '.join(pairs)}; {rest}"


def measured(outcomes: Sequence[Outcome], began: float, guests: Sequence[str]) -> Crowding:
    """Of streams that began once everybody had."""
    counted = [each for each in outcomes if each.ended - each.total > began + SETTLING]
    seconds = max(each.ended for each in counted) - began - SETTLING
    crowd = [each for each in counted if each.adapter == CROWDED]
    first, between, whole = Soak(began, counted, ()).percentiles(*guests)
    return Crowding(
        first=(first[0], first[1]),
        between=(between[0], between[1]),
        whole=(whole[0], whole[1]),
        crowd_tokens=sum(len(each.gaps) + 1 for each in crowd if each.end == "done") / seconds,
        refused=sum(each.status == 429 for each in crowd) / seconds,
        lost=sum(each.end != "done" for each in counted if each.adapter != CROWDED),
    )


def crowding(
    url: str, num_guests: int, num_crowd: int, seconds: float, question: Question
) -> Crowding:
    """The same from a process of its own, so that the clients take no time of the server's."""
    numbers = (num_guests, num_crowd, seconds, question.num_tokens, question.num_words)
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture.crowding", url, *map(str, numbers)],
        check=True,
        stdout=subprocess.PIPE,
    )
    return Crowding(**json.loads(done.stdout))


def main() -> None:
    url, num_guests, num_crowd, seconds, num_tokens, num_words = sys.argv[1:]
    guests = [f"a{number + 1}" for number in range(int(num_guests))]
    adapters = [*guests, *[CROWDED] * int(num_crowd)]
    began = time.monotonic()
    question = Question(int(num_tokens), int(num_words))
    outcomes = asyncio.run(
        keep_asking(url, adapters, question, until=began + SETTLING + float(seconds))
    )
    print(json.dumps(asdict(measured(outcomes, began, guests))))


if __name__ == "__main__":
    main()
