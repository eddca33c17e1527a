"""What one adapter that is asked a hundred times as much costs three others.

`python -m tests.torture.fairness SECONDS [SHARE…]` compares them beside one stream of the one,
beside 100 streams of sixty adapters, and beside 100 streams of the one; for each `--adapter-share`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.torture.asking import Question
from tests.torture.load import ENGINE, NAMES, keep_to
from tests.torture.site import make_settings, server_process
from tests.torture.soak import Soak, soak
from tests.torture.watching import serving_process

GUESTS = ["a1", "a2", "a3"]
SPREAD = (NAMES[4:64] * 2)[:100]
CROWD = ["a0"] * 100
LIMITS = replace(ENGINE, max_slots=64, max_queue=60)


def measure(share: float, seconds: float, question: Question) -> None:
    """The three beside one that asks as little as each, beside sixty others, and beside one with as
    many streams as those."""
    with tempfile.TemporaryDirectory() as folder:
        settings = make_settings(Path(folder), NAMES, replace(LIMITS, adapter_share=share))
        with server_process(settings) as (url, process):
            serving = serving_process(process.pid)
            keep_to(1, serving)
            keep_to(0, os.getpid())

            def run(adapters: list[str]) -> Soak:
                return asyncio.run(soak(url, serving, adapters, seconds, question))

            run([*GUESTS, *SPREAD])  # every adapter in its slot
            few, spread, crowd = (run([*GUESTS, *more]) for more in (CROWD[:1], SPREAD, CROWD))
    for title, soaked in (
        (f"share {share:g}: beside 1 stream of the one", few),
        ("beside 100 streams of 60 adapters", spread),
        ("beside 100 streams of the one", crowd),
    ):
        print(soaked.summary(title, *GUESTS))
    for name, before in (("1 stream", few), ("the sixty", spread)):
        first, gap, total = (
            crowded[1] / usual[1]
            for crowded, usual in zip(
                crowd.percentiles(*GUESTS), before.percentiles(*GUESTS), strict=True
            )
        )
        times = f"first text {first:.2f}, between {gap:.2f}, all {total:.2f}"
        print(f"  p95 beside 100 streams of the one over {name}: {times}")
    for title, soaked in (("1 stream", few), ("100", crowd)):
        done = sum(each.end == "done" for each in soaked.outcomes if each.adapter == CROWD[0])
        print(f"  of the one with {title}: {done / seconds:.1f} streams a second")
    sys.stdout.flush()


if __name__ == "__main__":
    for each in sys.argv[2:] or ["1"]:
        measure(float(each), float(sys.argv[1]), Question(num_tokens=8))
