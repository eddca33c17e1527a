"""`registry backup` and `registry restore`: the whole registry, out and in again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .opening import open_local, refusals
from .options import JsonOption, RegistryOption


def backup(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to; what it has already is not sent again.")
    ],
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy the whole registry as it is now; others may go on pushing."""
    from registry import console

    with refusals(as_json), console.progress_bars(hidden=as_json) as progress:
        from registry.backup import back_up

        made = back_up(open_local(registry), folder, progress)
    if as_json:
        console.print_json(asdict(made))
        return
    console.print_line(
        f"{made.num_versions} versions and {made.num_blobs} blobs are in {folder} "
        f"({made.num_copied} of them new)."
    )


def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `backup` made.")],
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an empty registry what a backup is, in whatever database and bucket it has."""
    from registry import console

    with refusals(as_json), console.progress_bars(hidden=as_json) as progress:
        from registry.backup import restore as run

        made = run(folder, open_local(registry, make=True), progress)
    if as_json:
        console.print_json(asdict(made))
        return
    console.print_line(f"{made.num_versions} versions and {made.num_blobs} blobs are back.")
