"""`hatstand evaluate` and `hatstand perplexity`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .completing import from_registry
from .failures import explained
from .registry_option import RegistryOption


class LevelName(StrEnum):
    """How weights are held."""

    bf16 = "bf16"
    int8 = "int8"
    nf4 = "nf4"
    nf4_dq = "nf4-dq"


def evaluate(
    references: Annotated[
        list[str],
        typer.Argument(metavar="NAME[@REF]...", autocompletion=from_registry("references")),
    ],
    data: Annotated[list[Path], typer.Option(help="Rows to ask; may be repeated.")],
    registry: RegistryOption = None,
    base: Annotated[str | None, typer.Option(help="Where the version's base lies.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    row_format: Annotated[
        str | None, typer.Option("--format", help="How a row reads.", show_default="as in training")
    ] = None,
    buckets: Annotated[
        str | None,
        typer.Option(
            help="Difficulties by words.", show_default="easy:10-100,medium:101-200,hard:200-800"
        ),
    ] = None,
    general: Annotated[
        Path | None, typer.Option(help="Text to measure forgetting on.", show_default="our own")
    ] = None,
    budget: Annotated[
        float, typer.Option(min=0, help="By what share its perplexity may rise.")
    ] = 0.2,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write evaluation.json and .png here (of several: comparison)."
        ),
    ] = None,
    post: Annotated[bool, typer.Option(help="State the result in the registry.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Measure versions on held-out rows, beside their bare base and one another."""
    import json

    from rich.console import Console

    with explained("evaluate", extra="server,training"):
        from training.evaluating.command import EvaluationOptions
        from training.evaluating.command import evaluate as run
        from training.evaluating.difficulty import BUCKETS, parse_buckets

        changes: dict[str, Any] = {} if row_format is None else {"format": row_format}
        options = EvaluationOptions(
            most_rows=rows,
            buckets=BUCKETS if buckets is None else parse_buckets(buckets),
            data=changes,
            general=general,
            budget=budget,
            base=base,
        )
        console = Console(quiet=as_json)
        reports = run(
            references,
            data,
            registry=registry,
            options=options,
            output=out,
            post=post,
            console=console,
        )
    if as_json:
        documents = [report.document() for report in reports]
        found = documents[0] if len(documents) == 1 else documents
        typer.echo(json.dumps(found, indent=1, ensure_ascii=False))


def perplexity(
    base: Annotated[str, typer.Option(help="A base's name or folder.")] = "smollm2-135m",
    text: Annotated[
        Path | None, typer.Option(help="What to read.", show_default="our own text")
    ] = None,
    level: Annotated[
        list[LevelName] | None, typer.Option(help="May be repeated.", show_default="all four")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw it here.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here.")
    ] = None,
) -> None:
    """Show what a base loses with fewer bits: bf16, int8, NF4, NF4 with double quantization."""
    with explained("perplexity", extra="training"):
        from training.evaluating.perplexity import measure_levels

        measure_levels(
            base,
            text=text,
            levels=[each.value for each in level or []],
            plot=plot,
            json_file=json_file,
        )
