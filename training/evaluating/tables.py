"""Scores as a table: a block of lines for each group of rows, a line for each side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from .scores import Group, Scores

# By the name of a side, its scores in the groups' order.
Sides = Mapping[str, Sequence[Scores]]

_COLUMNS = (
    # key, heading, format
    ("loss", "loss", ".3f"),
    ("perplexity", "perplexity", ".2f"),
    ("token_accuracy", "token acc.", ".3f"),
    ("exact_match", "exact", ".3f"),
    ("bleu", "BLEU", ".1f"),
    ("accuracy", "accuracy", ".3f"),
    ("precision", "precision", ".3f"),
    ("recall", "recall", ".3f"),
    ("f1", "F1", ".3f"),
)


def score_table(groups: Sequence[Group], sides: Sides, *, title: str) -> Table:
    """Columns that no side has in the first group are left out."""
    present = {name for scores in sides.values() for name in scores[0].numbers}
    columns = [column for column in _COLUMNS if column[0] in present]
    table = Table(title=title)
    for heading in ("rows", "", *(heading for _, heading, _ in columns)):
        table.add_column(heading, justify="left" if heading in ("rows", "") else "right")
    for index, group in enumerate(groups):
        for place, (side, scores) in enumerate(sides.items()):
            numbers = scores[index].numbers
            cells = [
                format(numbers[key], style) if key in numbers else "–" for key, _, style in columns
            ]
            name = f"{group.name} ({group.num_rows})" if place == 0 else ""
            table.add_row(name, side, *cells, end_section=place == len(sides) - 1)
    return table
