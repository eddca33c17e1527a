"""`registry import` and `registry export`: adapters from elsewhere and to elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from .opening import open_registry, refusals
from .options import BaseOption, ByOption, JsonOption, ReferenceArgument, RegistryOption


def import_(
    source: Annotated[
        str, typer.Argument(metavar="hf://ORG/NAME[@REV]", help="A PEFT adapter on the Hub.")
    ],
    name: Annotated[
        str | None,
        typer.Option(help="What to call it here.", show_default="the repository's name"),
    ] = None,
    alias: Annotated[str | None, typer.Option(help="Also point this alias at it.")] = None,
    base: BaseOption = None,
    by: ByOption = None,
    allow_new_base: Annotated[
        bool, typer.Option("--allow-new-base", help="Let NAME move to another base.")
    ] = False,
    size_limit: Annotated[
        float, typer.Option(min=0, metavar="GIB", help="Refuse adapters larger than this.")
    ] = 4.0,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch an adapter from the Hub once, pin its commit, check it and keep it as a version."""
    from registry import console

    with refusals(as_json), console.progress_bars(hidden=as_json) as progress:
        from registry.base_sources import find_record
        from registry.exchange.importing import Import, import_from_hub
        from registry.hub import HubReference

        wanted = Import(
            source=HubReference.parse(source),
            name=name,
            alias=alias,
            base=None if base is None else find_record(base, progress=progress),
            by=by,
            allow_new_base=allow_new_base,
            size_limit=int(size_limit * (1 << 30)),
        )
        version, pinned = import_from_hub(
            open_registry(registry, make=True), wanted, progress=progress
        )
    if as_json:
        console.print_json({**console.version_values(version), "source": str(pinned)})
        return
    if version.report is not None:
        console.print_warnings(version.report.warnings)
    console.print_line(f"{version.ref}  {version.digest}  ←  {pinned}", style="green")


def export(
    reference: ReferenceArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="hf://ORG/NAME|oci:DIR[:TAG]|DIR",
            help="A Hub repository (made private if new), an OCI layout, or a folder.",
        ),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Write over a folder that is not empty.")
    ] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a version out, for others to use without this registry."""
    from registry import console

    with refusals(as_json), console.progress_bars(hidden=as_json) as progress:
        from registry.exchange import export as copy_out

        done = copy_out(open_registry(registry), reference, to, force=force, progress=progress)
    if as_json:
        console.print_json({**console.version_values(done.version), "target": done.target})
    else:
        console.print_line(f"{done.version.ref}  {done.version.digest}  →  {done.target}")
