"""What one adapter that is asked a hundred times as much costs three others.

`python -m tests.torture.fairness SECONDS [SHARE…]` compares them, in turns, beside one stream of
the one and beside 100, for each `--adapter-share`. `--base FOLDER` takes another base than the tiny
one; `--spread` tells beside it what 100 streams of sixty adapters cost them.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.torture.asking import Question
from tests.torture.cores import served_apart
from tests.torture.crowding import Crowding, crowding, pooled
from tests.torture.load import ENGINE, NAMES
from tests.torture.site import make_settings
from tests.torture.soak import soak

GUESTS = ["a1", "a2", "a3"]
SPREAD = (NAMES[4:64] * 2)[:100]
CROWD = 100
LIMITS = replace(ENGINE, max_slots=64, max_queue=60)


@contextmanager
def serving(share: float, base: Path | None, names: list[str]) -> Iterator[tuple[str, int]]:
    """A server on one core, and this process and its clients on another: its URL and process."""
    with tempfile.TemporaryDirectory() as folder:
        engine = replace(LIMITS, adapter_share=share, kv_memory=256 << 20 if base else 16 << 20)
        settings = make_settings(Path(folder), names, engine, base=base)
        with served_apart(settings) as at:
            yield at


def compare(url: str, seconds: float, rounds: int, question: Question, title: str) -> None:
    """Print what the three see, each round for itself: a machine is not alike all the time."""
    crowding(url, len(GUESTS), CROWD, 0.1, question)  # the one comes into its slot
    few, many = list[Crowding](), list[Crowding]()
    for _ in range(rounds):
        few.append(crowding(url, len(GUESTS), 1, seconds, question))
        print(few[-1].line("beside 1 stream of the one", few[-1]), flush=True)
        many.append(crowding(url, len(GUESTS), CROWD, seconds, question))
        print(many[-1].line("beside 100 streams of the one", few[-1]), flush=True)
    print(pooled(many).line(f"{title}, all rounds", pooled(few)), flush=True)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=float, help="of each case")
    parser.add_argument("shares", type=float, nargs="*", default=[1.0])
    parser.add_argument("--base", type=Path, help="its folder")
    parser.add_argument("--spread", action="store_true", help="beside 100 streams of 60 adapters")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=8, help="of each answer")
    return parser.parse_args()


def main(chosen: argparse.Namespace) -> None:
    question = Question(num_tokens=chosen.tokens)
    names = NAMES if chosen.spread else NAMES[:4]
    for share in chosen.shares:
        title = f"share {share:g}"
        with serving(share, chosen.base, names) as (url, pid):
            if chosen.spread:
                adapters = [*GUESTS, *SPREAD]
                spread = asyncio.run(soak(url, pid, adapters, chosen.seconds, question))
                print(spread.summary(f"{title}: beside 100 streams of 60 adapters", *GUESTS))
            compare(url, chosen.seconds, chosen.rounds, question, title)


if __name__ == "__main__":
    main(options())
