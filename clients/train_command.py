"""`hatstand train`: an adapter from a recipe, or what a run would be."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from .completing import from_registry
from .failures import explained, fail
from .registry_option import RegistryOption
from .reproduce_command import reproduce as train_again


def train(
    recipe: Annotated[Path | None, typer.Argument(metavar="RECIPE.yaml")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key.")
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[@ALIAS]",
            help="Push the result.",
            autocompletion=from_registry("references"),
        ),
    ] = None,
    registry: RegistryOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check recipe, data, licence and servability only.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Work out parameters, memory, steps and time only.")
    ] = False,
    reproduce: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[@REF]",
            help="Train this version again, and compare.",
            autocompletion=from_registry("references"),
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --reproduce: where its files are, if not here."),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the recipe's JSON schema, for editors.")
    ] = False,
) -> None:
    """Train an adapter from a recipe, ready to push."""
    with explained("train", extra="training"):
        if schema:
            _print_schema()
        elif reproduce is not None:
            if recipe or overrides or push or resume or check or plan:
                fail("--reproduce trains a version as it was: --data and --registry go with it")
            train_again(reproduce, data=data, output=None, registry=registry)
        elif recipe is None:
            fail("name a recipe: hatstand train RECIPE.yaml")
        elif check:
            _check(recipe, overrides or [])
        elif plan:
            from training.planning.plan import print_plan

            print_plan(recipe, overrides or [])
        else:
            from training.commands import train as run
            from training.processes import Followed

            with contextlib.suppress(Followed):  # one of several, whose first one does the rest
                run(recipe, overrides or [], push, registry, resume=resume)


def _print_schema() -> None:
    from training.schema import schema_text

    typer.echo(schema_text(), nl=False)


def _check(recipe: Path, overrides: list[str]) -> None:
    from rich.console import Console

    from training.check import print_check
    from training.reading import read_recipe

    if not print_check(read_recipe(recipe, overrides), Console()):
        raise typer.Exit(1)
