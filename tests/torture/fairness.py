"""What one adapter that is asked a hundred times as much costs three others.

`python -m tests.torture.fairness SECONDS [SHARE…]` compares them beside 100 streams of sixty
adapters, and, in turns, beside one stream of the one and beside 100; for each `--adapter-share`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.torture.asking import Question
from tests.torture.cores import served_apart
from tests.torture.crowding import crowding
from tests.torture.load import ENGINE, NAMES
from tests.torture.site import make_settings
from tests.torture.soak import soak

GUESTS = ["a1", "a2", "a3"]
SPREAD = (NAMES[4:64] * 2)[:100]
CROWD = 100
ROUNDS = 3
LIMITS = replace(ENGINE, max_slots=64, max_queue=60)


def measure(share: float, seconds: float, question: Question) -> None:
    """Print what the three see, each round for itself: a machine is not alike all the time."""
    with tempfile.TemporaryDirectory() as folder:
        settings = make_settings(Path(folder), NAMES, replace(LIMITS, adapter_share=share))
        with served_apart(settings) as (url, serving):
            spread = asyncio.run(soak(url, serving, [*GUESTS, *SPREAD], seconds, question))
            print(spread.summary(f"share {share:g}: beside 100 streams of 60 adapters", *GUESTS))
            crowding(url, len(GUESTS), CROWD, 0.1, question)  # the one comes into its slot
            for _ in range(ROUNDS):
                few = crowding(url, len(GUESTS), 1, seconds, question)
                print(few.line("beside 1 stream of the one", few))
                many = crowding(url, len(GUESTS), CROWD, seconds, question)
                print(many.line("beside 100 streams of the one", few), flush=True)


if __name__ == "__main__":
    for each in sys.argv[2:] or ["1"]:
        measure(float(each), float(sys.argv[1]), Question(num_tokens=8))
