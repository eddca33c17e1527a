"""`registry diff`: what changed between two versions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .opening import open_registry, refusals
from .options import JsonOption, ReferenceArgument, RegistryOption

if TYPE_CHECKING:
    from registry.diff import Change, VersionDiff
    from registry.diff.weights import Products

_WIDEST = 60  # characters of one value in a table; --json has all of it


def diff(
    before: ReferenceArgument,
    after: ReferenceArgument,
    png: Annotated[
        Path | None,
        typer.Option("--png", metavar="FILE", help="Draw the weights, layer by projection."),
    ] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two versions: configuration, hat, recipe, data, metrics and weights."""
    from registry import console

    with refusals(as_json), console.progress_bars(hidden=as_json) as progress:
        from registry.diff import diff_versions

        found = diff_versions(open_registry(registry), before, after, progress=progress)
        if png is not None:
            from registry.diff.heat_map import draw_heat_map

            draw_heat_map(found, png)
    if as_json:
        console.print_json(found.to_dict())
    else:
        _print(found)


def _print(found: VersionDiff) -> None:
    from registry import console

    console.print_line(f"{found.before.ref} → {found.after.ref}", style="bold")
    if found.before.digest == found.after.digest:
        console.print_line("the same version")
        return
    for name, changed in found.documents.items():
        if changed:
            console.print_line("")
            console.print_rows((name, "before", "after", "change"), _rows(changed))
    console.print_line("")
    if found.weights is None:
        console.print_line("weights: not comparable, the bases are of other shapes")
        return
    rows = [(str(layer), *_numbers(each)) for layer, each in found.weights.layers.items()]
    rows.append(("all", *_numbers(found.weights.total)))
    columns = ("layer", "norm before", "norm after", "cosine", "distance")
    console.print_rows(columns, rows)


def _rows(changed: Sequence[Change]) -> list[tuple[str, str, str, str]]:
    return [
        (
            change.key,
            _short(change.before),
            _short(change.after),
            "" if change.step is None else f"{change.step:+.6g}",
        )
        for change in changed
    ]


def _numbers(products: Products) -> tuple[str, str, str, str]:
    cosine = "–" if products.cosine is None else f"{products.cosine:+.4f}"
    lengths = (products.norm_before, products.norm_after, products.distance)
    before, after, distance = (f"{length:.4g}" for length in lengths)
    return before, after, cosine, distance


def _short(value: object) -> str:
    if value is None:
        return "–"
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.isprintable():
        text = value
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
