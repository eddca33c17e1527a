"""`registry alias`: names that move, and who moved them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

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

app = typer.Typer(help="Move aliases, and see who moved them.", no_args_is_help=True)


@app.command("set")
def set_(
    name: NameArgument,
    alias: AliasArgument,
    target: TargetArgument,
    by: ByOption = None,
    why: WhyOption = "",
    expected: ExpectedOption = None,
    require_receipt: Annotated[
        bool,
        typer.Option("--require-receipt", help="Move it only if the version's receipt is kept."),
    ] = False,
    host_base: HostOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Point an alias at a version."""
    from registry import console

    with refusals(as_json):
        reference = written_under(name, target)
        opened = open_registry(registry)
        if require_receipt:
            proven = opened.resolve(reference)
            prove(opened, proven, host_base)
            reference = (
                f"{proven.name}@{proven.digest}"  # what was proven, whatever moves meanwhile
            )
        version = opened.set_alias(name, alias, reference, expected=expected, by=by, why=why)
    if as_json:
        console.print_json({**console.version_values(version), "alias": alias})
    else:
        console.print_line(f"{name}@{alias}  →  {version.ref}  {version.digest}")


@app.command()
def protect(
    name: NameArgument,
    alias: AliasArgument,
    lift: Annotated[bool, typer.Option("--lift", help="Lift the protection.")] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let only keys with the verb `protect` move an alias through the registry's server."""
    from registry import console

    with refusals(as_json):
        open_registry(registry).protect_alias(name, alias, is_protected=not lift)
    if as_json:
        console.print_json({"name": name, "alias": alias, "is_protected": not lift})
        return
    console.print_line(f"{name}@{alias} is {'no longer ' if lift else ''}protected.")


@app.command()
def history(
    name: NameArgument,
    alias: AliasArgument,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every move of an alias: who, when, why, from, to."""
    from registry import console

    with refusals(as_json):
        events = open_registry(registry).alias_history(name, alias)
    if as_json:
        console.print_json([asdict(event) for event in events])
    else:
        console.print_history(events)


@app.command()
def rollback(
    name: NameArgument,
    alias: AliasArgument,
    by: ByOption = None,
    why: WhyOption = "",
    expected: ExpectedOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Point an alias where it pointed before, as a new event."""
    from registry import console

    with refusals(as_json):
        version = open_registry(registry).rollback_alias(
            name, alias, expected=expected, by=by, why=why
        )
    if as_json:
        console.print_json({**console.version_values(version), "alias": alias})
    else:
        console.print_line(f"{name}@{alias}  →  {version.ref}  {version.digest}")
