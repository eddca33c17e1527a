"""`registry withdraw` and `registry gc`: taking versions out, and removing what nothing needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from .opening import open_registry, refusals
from .options import ByOption, JsonOption, ReferenceArgument, RegistryOption, WhyOption


def withdraw(
    reference: ReferenceArgument,
    by: ByOption = None,
    why: WhyOption = "",
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let nobody find a version any more; pushing the same bytes brings it back."""
    from registry import console

    with refusals(as_json):
        version = open_registry(registry).withdraw(reference, by=by, why=why)
    if as_json:
        console.print_json(console.version_values(version))
    else:
        console.print_line(f"{version.ref}  {version.digest}  withdrawn")


def collect(
    grace: Annotated[
        float, typer.Option(min=0, metavar="HOURS", help="Spare what is younger.")
    ] = 24.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")
    ] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove blobs that no version, referrer or lease needs."""
    from registry import console

    with refusals(as_json):
        values = _collect(registry, grace * 3600, dry_run)
    if as_json:
        console.print_json(values)
        return
    for blob in values["collected"]:
        console.print_line(f"{blob['digest']}  {blob['size']}")
    verb = "would go" if dry_run else "went"
    console.print_line(
        f"{len(values['collected'])} blobs of {values['freed']} bytes {verb}, "
        f"{len(values['spared'])} unused ones are too young, {values['num_kept']} are in use."
    )


def _collect(registry: str | None, grace: float, dry_run: bool) -> Mapping[str, Any]:
    from registry.collection import collect as run
    from registry.console import collection_values
    from registry.embedded import Registry

    opened = open_registry(registry)
    if isinstance(opened, Registry):
        return collection_values(run(opened, grace=grace, dry_run=dry_run))
    return opened.collect(grace=grace, dry_run=dry_run)
