"""One run's outcomes and samples, and what they come to."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.torture.asking import Outcome, Question, keep_asking
from tests.torture.watching import Sample, watch

MIB = 1 << 20
POINTS = (50, 95, 99)
COLUMNS = (
    *("seconds", "rss_mib", "device_mib", "running", "waiting", "tokens_per_second"),
    *("done", "refused", "failed"),
    *(f"{what}_p{point}_s" for what in ("first", "gap") for point in POINTS),
)


@dataclass(frozen=True)
class Soak:
    """All outcomes of one run, and what the server held meanwhile."""

    began: float
    outcomes: Sequence[Outcome]
    samples: Sequence[Sample]

    @property
    def ends(self) -> Counter[str]:
        return Counter(outcome.end for outcome in self.outcomes)

    @property
    def most_waiting(self) -> int:
        return max((sample.waiting for sample in self.samples), default=0)

    @property
    def got_in(self) -> tuple[int, int]:
        """Of those who came back after their Retry-After: how many got in, and how many came."""
        back = [outcome for outcome in self.outcomes if outcome.came_back]
        return sum(outcome.status == 200 for outcome in back), len(back)

    def slope(self, *, warm_up: float = 0.5, what: str = "resident") -> tuple[float, float]:
        """MiB an hour by which memory grew after that part of the run, by least squares, and the
        standard error of that."""
        part = self.samples[int(len(self.samples) * warm_up) :]
        hours = np.array([sample.at / 3600 for sample in part])
        sizes = np.array([getattr(sample, what) / MIB for sample in part])
        (slope, _), covariance = np.polyfit(hours - hours.mean(), sizes, 1, cov=True)
        return float(slope), float(np.sqrt(covariance[0, 0]))

    def least(self, seconds: float = 60.0) -> list[float]:
        """The least resident memory of each so many seconds, in MiB.

        On a CPU the heap's holes fill for a minute and are given back: what stays is below them.
        """
        sizes: dict[int, list[int]] = {}
        for sample in self.samples:
            sizes.setdefault(int((sample.at - self.began) // seconds), []).append(sample.resident)
        return [min(some) / MIB for some in sizes.values()]

    def percentiles(self, *adapters: str) -> tuple[list[float], list[float], list[float]]:
        """p50, p95 and p99 of seconds to the first text, between texts, and in all.

        Of some adapters, or of any.
        """
        done = [
            o for o in self.outcomes if o.end == "done" and o.adapter in (adapters or [o.adapter])
        ]
        return (
            _points([each.first for each in done]),
            _points([gap for each in done for gap in each.gaps]),
            _points([each.total for each in done]),
        )

    def write_csv(self, file: Path, *, window: float) -> None:
        """A row for each so many seconds."""
        with file.open("w", newline="") as lines:
            writer = csv.writer(lines)
            writer.writerow(COLUMNS)
            writer.writerows(self._rows(window))

    def _rows(self, window: float) -> Iterator[list[float]]:
        last = max(sample.at for sample in self.samples)
        for start in np.arange(self.began, last, window):
            end = start + window
            samples = [sample for sample in self.samples if start <= sample.at < end]
            outcomes = [outcome for outcome in self.outcomes if start <= outcome.ended < end]
            if not samples:
                continue
            done = [outcome for outcome in outcomes if outcome.end == "done"]
            ends = Counter(outcome.end for outcome in outcomes)
            tokens = sum(len(outcome.gaps) + 1 for outcome in done)
            row = [
                end - self.began,
                samples[-1].resident / MIB,
                samples[-1].device / MIB,
                float(np.mean([sample.running for sample in samples])),
                float(np.mean([sample.waiting for sample in samples])),
                tokens / window,
                ends["done"],
                ends["refused"],
                len(outcomes) - ends["done"] - ends["refused"],
                *_points([outcome.first for outcome in done]),
                *_points([gap for outcome in done for gap in outcome.gaps]),
            ]
            yield [round(value, 5) for value in row]

    def summary(self, title: str, *guests: str) -> str:
        """The figures, for people."""
        lines = [f"{title}: {dict(self.ends)}"]
        for who, chosen in (("everybody", ()), ("guests", guests)):
            if chosen or who == "everybody":
                first, gap, total = (np.round(each, 4) for each in self.percentiles(*chosen))
                lines.append(f"  {who}, p50/p95/p99 s: first {first}, between {gap}, all {total}")
        got_in, back = self.got_in
        lines.append(f"  most waiting {self.most_waiting}; came back {back}, got in {got_in}")
        for what in ("resident", "device"):
            sizes = [getattr(sample, what) / MIB for sample in self.samples]
            if len(sizes) > 8 and sizes[-1]:
                slope, error = self.slope(what=what)
                ends = f"{sizes[0]:.0f} to {sizes[-1]:.0f} MiB"
                lines.append(f"  {what} {ends}, second half {slope:+.1f} ± {error:.1f} MiB/h")
        least = " ".join(f"{size:.0f}" for size in self.least())
        lines.append(f"  resident, least of each minute: {least} MiB")
        return "\n".join(lines)


def _points(values: Sequence[float]) -> list[float]:
    return [float(np.percentile(values, point)) if values else 0.0 for point in POINTS]


async def soak(
    url: str, pid: int, adapters: Sequence[str], seconds: float, question: Question
) -> Soak:
    """Keep a stream open for each entry of `adapters`, one after the other, for so long."""
    began = time.monotonic()
    until = began + seconds
    outcomes, samples = await asyncio.gather(
        keep_asking(url, adapters, question, until=until),
        watch(url, pid, until=until, every=max(0.2, min(1.0, seconds / 100))),
    )
    return Soak(began, outcomes, samples)


def main() -> None:
    """`python -m tests.torture.soak URL PID SECONDS TOKENS WORDS NAMES.json OUT.csv`.

    Warms up first; the curves go beside the table.
    """
    from tests.torture.curves import draw

    url, pid, seconds, num_tokens, num_words, names, table = sys.argv[1:]
    adapters: list[str] = json.loads(Path(names).read_text())
    question, length = Question(int(num_tokens), int(num_words)), float(seconds)
    asyncio.run(soak(url, int(pid), adapters, min(15.0, length), question))
    run = asyncio.run(soak(url, int(pid), adapters, length, question))
    title = f"{len(adapters)} streams over {len(set(adapters))} adapters, {length:.0f} s"
    print(run.summary(title), flush=True)
    run.write_csv(Path(table), window=max(1.0, length / 120))
    draw(Path(table), Path(table).with_suffix(".png"), title)


if __name__ == "__main__":
    main()
