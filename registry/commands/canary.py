"""`registry canary`: try a version behind an alias, by rules."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from registry.references import written_under

from .opening import open_registry, refusals
from .options import (
    AliasArgument,
    ByOption,
    ExpectedOption,
    JsonOption,
    NameArgument,
    RegistryOption,
    TargetArgument,
    WhyOption,
)
from .replay import HostOption, prove

if TYPE_CHECKING:
    from registry.canary.canaries import Standing
    from registry.canary.record import Canary
    from registry.canary.rules import Rules

app = typer.Typer(help="Try a version on a share of an alias's requests.", no_args_is_help=True)

EtagOption = Annotated[
    str | None,
    typer.Option(
        "--expected",
        metavar="ETAG",
        help="Refuse unless the canary still is what `status` showed.",
        show_default=False,
    ),
]
_OFF = "no limit"


@app.command()
def start(
    name: NameArgument,
    alias: AliasArgument,
    target: TargetArgument,
    steps: Annotated[
        str, typer.Option(metavar="PERCENTS", help="Its share of the requests, step by step.")
    ] = "10,25,50,100",
    step_seconds: Annotated[float, typer.Option(min=0, help="How long a step lasts.")] = 300,
    bake_seconds: Annotated[float, typer.Option(min=0, help="How long the last one does.")] = 600,
    min_requests: Annotated[int, typer.Option(min=1, help="Answers that a step needs.")] = 50,
    max_error_rate: Annotated[
        float, typer.Option(min=0, max=1, help="The share of them that may fail.")
    ] = 0.05,
    max_ttft_p95: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="To first tokens.", show_default=_OFF)
    ] = None,
    max_inter_token_p95: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Between tokens.", show_default=_OFF)
    ] = None,
    max_slowdown: Annotated[
        float | None,
        typer.Option(
            metavar="TIMES", help="Either, beside the other version's.", show_default=_OFF
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION", help="What evaluations must say: 'exact_match>=0.9'; repeatable."
        ),
    ] = None,
    manual: Annotated[
        bool, typer.Option("--manual", help="Rules only end it; advance it by hand.")
    ] = False,
    require_receipt: Annotated[
        bool, typer.Option("--require-receipt", help="Begin only if its receipt is kept.")
    ] = False,
    host_base: HostOption = None,
    by: ByOption = None,
    why: WhyOption = "",
    expected: ExpectedOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a share of an alias's requests to VERSION; rules advance it, or take it back."""
    with refusals(as_json):
        from registry.canary.rules import Rules

        rules = Rules.read(
            {
                "steps": _percents(steps),
                "step_seconds": step_seconds,
                "bake_seconds": bake_seconds,
                "min_requests": min_requests,
                "max_error_rate": max_error_rate,
                "max_ttft_p95": max_ttft_p95,
                "max_inter_token_p95": max_inter_token_p95,
                "max_slowdown": max_slowdown,
                "metrics": metric or (),
                "is_automatic": not manual,
            }
        )
        reference = written_under(name, target)
        with closing(open_registry(registry)) as opened:
            if require_receipt:
                proven = opened.resolve(reference)
                prove(opened, proven, host_base)
                reference = f"{name}@{proven.digest}"  # what was proven, whatever moves meanwhile
            begun = opened.canaries.start(
                name, alias, reference, rules, expected=expected, by=by, why=why
            )
    _print_moved(begun, as_json)


@app.command()
def status(
    name: NameArgument,
    alias: AliasArgument,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """How the newest canary of an alias stands, and what its rules wait for."""
    from registry import console

    with refusals(as_json), closing(open_registry(registry)) as opened:
        from registry.canary.documents import standing_document

        standing = opened.canaries.standing(name, alias)
    if as_json:
        console.print_json(standing_document(standing))
    else:
        _print_standing(standing)


@app.command("list")
def list_(registry: RegistryOption = None, as_json: JsonOption = False) -> None:
    """Every canary that runs."""
    from registry import console

    with refusals(as_json), closing(open_registry(registry)) as opened:
        from registry.canary.documents import canary_document

        running = opened.canaries.running()
    if as_json:
        console.print_json([canary_document(each) for each in running])
        return
    console.print_rows(
        ("alias", "from", "to", "share", "step", "since", "by"),
        [
            (
                each.ref,
                str(each.stable.number),
                str(each.target.number),
                f"{each.weight}%",
                f"{each.step + 1} of {len(each.rules.steps)}",
                f"{each.started_at:%Y-%m-%d %H:%M}",
                each.by,
            )
            for each in running
        ],
    )


@app.command()
def advance(
    name: NameArgument,
    alias: AliasArgument,
    by: ByOption = None,
    why: WhyOption = "",
    expected: EtagOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Begin the next step now, whatever the rules wait for; after the last, move the alias."""
    with refusals(as_json), closing(open_registry(registry)) as opened:
        moved = opened.canaries.advance(name, alias, expected=expected, by=by, why=why)
    _print_moved(moved, as_json)


@app.command()
def abort(
    name: NameArgument,
    alias: AliasArgument,
    by: ByOption = None,
    why: WhyOption = "",
    expected: EtagOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give all requests back to the version that the alias points at."""
    with refusals(as_json), closing(open_registry(registry)) as opened:
        ended = opened.canaries.abort(name, alias, expected=expected, by=by, why=why)
    _print_moved(ended, as_json)


def _percents(text: str) -> Sequence[int]:
    from registry.errors import InvalidReference

    try:
        return [int(part.strip().removesuffix("%")) for part in text.split(",")]
    except ValueError:
        raise InvalidReference(
            f"--steps {text[:80]!r}: write shares like 10,25,50,100", param="steps"
        ) from None


def _print_moved(canary: Canary, as_json: bool) -> None:
    from registry import console
    from registry.canary.documents import canary_document

    if as_json:
        console.print_json(canary_document(canary))
    elif canary.is_running:
        console.print_line(f"{canary.ref}  {canary.weight}% → {canary.target.ref}")
    else:
        version = canary.target if canary.state == "promoted" else canary.stable
        console.print_line(f"{canary.ref}  {canary.state}: all → {version.ref}")


def _print_standing(standing: Standing) -> None:
    from registry import console
    from registry.canary.judging import summary

    canary, evidence = standing.canary, standing.evidence
    _print_moved(canary, as_json=False)
    console.print_line(f"etag {canary.etag}; begun by {canary.by}{_because(canary.why)}")
    if not canary.is_running:
        console.print_line(canary.verdict)
        return
    console.print_rows(
        ("version", "share", "so far in this step"),
        [
            (canary.stable.ref, f"{100 - canary.weight}%", summary(evidence.stable)),
            (canary.target.ref, f"{canary.weight}%", summary(evidence.target)),
        ],
    )
    step = f"step {canary.step + 1} of {_schedule(canary.rules)}, {evidence.seconds:.0f} s"
    console.print_line(f"{step}; {standing.judgement.action}: {standing.judgement.why}")


def _schedule(rules: Rules) -> str:
    return " → ".join(f"{share}%" for share in rules.steps)


def _because(why: str) -> str:
    return f": {why}" if why else ""
