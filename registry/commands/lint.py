"""`registry lint`: what a push would say, without pushing."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .opening import refusals
from .options import BaseOption, JsonOption

if TYPE_CHECKING:
    from registry.inspection import Inspection
    from registry.report import Report


def lint(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An adapter's folder.")],
    base: BaseOption = None,
    modules: Annotated[
        bool, typer.Option("--modules", help="Also list every update's norm and effective rank.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check an adapter as a push would, and say what it found; nothing is stored."""
    from registry import console

    with refusals(as_json), console.progress_bars(hidden=as_json) as progress:
        from registry.base_sources import find_record
        from registry.inspection import inspect

        record = None if base is None else find_record(base, progress=progress)
        found = inspect(folder, base=record, progress=progress)
    if as_json:
        console.print_json(_values(found))
    else:
        _print(found, with_modules=modules)
    if found.refusal is not None:
        raise typer.Exit(1)


def _values(found: Inspection) -> dict[str, Any]:
    refusal = found.refusal
    error = refusal and {"message": refusal.message, "code": refusal.code, "param": refusal.param}
    return {
        "is_accepted": refusal is None,
        "digest": found.digest,
        "verdicts": [asdict(verdict) for verdict in found.verdicts],
        "report": None if found.report is None else asdict(found.report),
        "error": error,
    }


def _print(found: Inspection, *, with_modules: bool) -> None:
    from registry import console

    if found.verdicts:
        rows = [
            (each.key, "accepted" if each.is_accepted else "refused", each.reason)
            for each in found.verdicts
        ]
        console.print_rows(("feature", "verdict", "because"), rows)
    if found.report is not None:
        _print_report(found.report, with_modules=with_modules)
    if found.refusal is not None:
        console.print_error(found.refusal, as_json=False)
    else:
        console.print_line(f"accepted  {found.digest}", style="green")


def _print_report(report: Report, *, with_modules: bool) -> None:
    from registry import console

    console.print_line(
        f"{report.num_tensors} tensors, {report.num_parameters:,} parameters in {report.dtype}; "
        f"rank {report.max_rank} on {', '.join(report.projections)}"
    )
    console.print_line(
        f"median norm of an update {report.median_norm:.4g}, mean effective rank "
        f"{report.mean_effective_rank:.2f} of {report.max_rank}"
    )
    console.print_warnings(report.warnings)
    if with_modules:
        rows = [
            (
                each.tensor.removesuffix(".lora_B.weight"),
                f"{each.norm:.4g}",
                f"{each.effective_rank:.2f}",
            )
            for each in report.modules
        ]
        console.print_rows(("module", "norm", "effective rank"), rows)
