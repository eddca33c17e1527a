"""How long rows are, and what each way to shorten them would cost, before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .samples import Sample


@dataclass(frozen=True)
class Lengths:
    """The token counts of samples as rendered, and the `limit` that they are to keep to."""

    samples: Sequence[Sample]
    limit: int
    batch_size: int

    @cached_property
    def counts(self) -> list[int]:
        """The lengths, sorted."""
        return sorted(map(len, self.samples))

    @property
    def num_over(self) -> int:
        """Rows of more than `limit` tokens."""
        return sum(count > self.limit for count in self.counts)

    @property
    def without_answer(self) -> int:
        """Rows of which a cut on the right leaves nothing to learn."""
        over = [(sample, len(sample) - self.limit) for sample in self.samples]
        return sum(excess > 0 and not each.without_end(excess).teaches for each, excess in over)

    def quantile(self, share: float) -> int:
        """The length that this share of the rows does not exceed."""
        return self.counts[math.ceil(share * len(self.counts)) - 1]

    def padded(self) -> list[int]:
        """The lengths once rows are batched in their order, each padded to its batch's longest."""
        cut = [min(len(sample), self.limit) for sample in self.samples]
        batches = [cut[i : i + self.batch_size] for i in range(0, len(cut), self.batch_size)]
        return [max(batch) for batch in batches for _ in batch]

    def describe(self) -> str:
        """One line for a person."""
        text = (
            f"{_rows(len(self.counts))} of {self.counts[0]} to {self.counts[-1]} tokens, "
            f"half up to {self.quantile(0.5)}, 95% up to {self.quantile(0.95)}"
        )
        if not self.num_over:
            return text
        are = "is" if self.num_over == 1 else "are"
        return (
            f"{text}; {_rows(self.num_over)} {are} over {self.limit}: left truncation cuts into "
            "their prompts, right truncation into their answers "
            f"({self.without_answer:,} would have none left)"
        )

    def plot(self, path: Path, *, title: str) -> None:
        """A PNG with the histogram of lengths, before and after padding, and the limit."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        top = max(self.counts[-1], self.limit if self.num_over else 0)
        bins = [top * step / 40 for step in range(41)]
        axes.hist(self.counts, bins=bins, color="#1f5a94", label="as they are")
        axes.hist(
            self.padded(),
            bins=bins,
            histtype="step",
            color="#c2541b",
            label=f"padded in batches of {self.batch_size}",
        )
        if self.num_over:
            axes.axvline(self.limit, color="#333333", linestyle="--", label="train.max_length")
        axes.set(title=f"{title}: tokens a row", xlabel="tokens", ylabel="rows")
        axes.legend()
        # No metadata: matplotlib would write its version and so change the file's digest.
        figure.savefig(path, dpi=120, metadata={"Software": None})


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
