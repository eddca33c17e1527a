"""`registry keys`: who may use the registry's server, made beside its folder."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from .opening import open_local, refusals
from .options import JsonOption, RegistryOption

app = typer.Typer(help="Keys of the registry's server.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key, for the history.")],
    verb: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VERB",
            help="read, report, push, alias, protect, delete or admin; repeat for more.",
        ),
    ] = None,
    adapters: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Names it is good for, such as 'sql*'; repeatable."),
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0, help="Until it expires.", show_default="never")
    ] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. Its token is shown now and never again."""
    from registry import console

    with refusals(as_json):
        from registry.documents import document
        from registry.identity import whoami
        from registry.keys import Keys

        expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
        key, token = Keys(open_local(registry, make=True).catalog).create(
            name, verb or ["read"], adapters or ["*"], expires_at=expires_at, by=whoami()
        )
    if as_json:
        console.print_json({**document(key), "token": token})
    else:
        console.print_line(token)


@app.command()
def adopt(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key, for the history.")],
    token: Annotated[
        str,
        typer.Option(
            envvar="HATSTAND_REGISTRY_KEY",
            help="hsk_, 16 hex digits, _ and 32 characters or more.",
            show_default=False,
        ),
    ],
    verb: Annotated[
        list[str] | None,
        typer.Option(metavar="VERB", help="As for `create`; repeat for more."),
    ] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a key whose token was made elsewhere, such as a Kubernetes Secret; once is enough."""
    from registry import console

    with refusals(as_json):
        from registry.documents import document
        from registry.identity import whoami
        from registry.keys import Keys

        key = Keys(open_local(registry, make=True).catalog).adopt(
            token, name, verb or ["read"], by=whoami()
        )
    if as_json:
        console.print_json(document(key))
        return
    console.print_line(f"The key {key.name!r} is good for {', '.join(key.verbs)}.")


@app.command("list")
def list_(registry: RegistryOption = None, as_json: JsonOption = False) -> None:
    """Every key, without its secret."""
    from registry import console

    with refusals(as_json):
        from registry.documents import document
        from registry.keys import Keys

        keys = Keys(open_local(registry).catalog).list()
    if as_json:
        console.print_json([{**document(key), "is_valid": key.is_valid} for key in keys])
        return
    rows = [
        (key.id, key.name, " ".join(key.verbs), " ".join(key.patterns), _state(key.is_valid))
        for key in keys
    ]
    console.print_rows(("id", "name", "verbs", "adapters", "state"), rows)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="From `registry keys list`.")],
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key worthless from now on."""
    from registry import console

    with refusals(as_json):
        from registry.documents import document
        from registry.keys import Keys

        key = Keys(open_local(registry).catalog).revoke(key_id)
    if as_json:
        console.print_json(document(key))
    else:
        console.print_line(f"The key {key.name!r} is good for nothing any more.")


def _state(is_valid: bool) -> str:
    return "valid" if is_valid else "ended"
