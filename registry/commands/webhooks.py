"""`registry webhooks`: who is told of events."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .opening import open_registry, refusals
from .options import JsonOption, RegistryOption

if TYPE_CHECKING:
    from registry.webhooks.desk import WebhookDesk

app = typer.Typer(help="Tell other systems of events.", no_args_is_help=True)

IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="From `registry webhooks list`.", show_default=False)
]


@app.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events are POSTed to.")],
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Kinds of events, such as 'alias.*'; repeatable."),
    ] = None,
    adapters: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Adapters, such as 'sql*'; repeatable."),
    ] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell URL of what happens from now on. Its secret is shown now and never again."""
    from registry import console

    with refusals(as_json), _desk(registry) as desk:
        made = desk.add(url, kind or ["*"], adapters or ["*"])
    if as_json:
        console.print_json(made)
    else:
        console.print_line(f"{made['id']}  {made['secret']}")


@app.command("list")
def list_(registry: RegistryOption = None, as_json: JsonOption = False) -> None:
    """Every webhook, without its secret."""
    from registry import console

    with refusals(as_json), _desk(registry) as desk:
        found = desk.list()
    if as_json:
        console.print_json(found)
        return
    rows = [
        (
            each["id"],
            each["url"],
            " ".join(each["kinds"]),
            " ".join(each["patterns"]),
            str(each["cursor"]),
            _state(each),
        )
        for each in found
    ]
    console.print_rows(("id", "url", "kinds", "adapters", "event", "state"), rows)


@app.command()
def remove(
    hook_id: IdArgument, registry: RegistryOption = None, as_json: JsonOption = False
) -> None:
    """Tell it nothing any more."""
    from registry import console

    with refusals(as_json), _desk(registry) as desk:
        desk.remove(hook_id)
    if as_json:
        console.print_json({"id": hook_id, "removed": True})
        return
    console.print_line(f"The webhook {hook_id} is gone.")


@app.command()
def enable(
    hook_id: IdArgument, registry: RegistryOption = None, as_json: JsonOption = False
) -> None:
    """Try one again that was given up, from the event on that did not arrive."""
    from registry import console

    with refusals(as_json), _desk(registry) as desk:
        enabled = desk.enable(hook_id)
    if as_json:
        console.print_json(enabled)
    else:
        console.print_line(f"The webhook {hook_id} goes on after event {enabled['cursor']}.")


@app.command("test")
def try_out(
    hook_id: IdArgument, registry: RegistryOption = None, as_json: JsonOption = False
) -> None:
    """Send it an event that did not happen; exit code 1 if that does not arrive."""
    from registry import console

    with refusals(as_json), _desk(registry) as desk:
        outcome = desk.test(hook_id)
    if as_json:
        console.print_json(outcome)
    else:
        said = outcome["error"] or f"answered {outcome['status']}"
        console.print_line(f"{said}, after {outcome['seconds']:.2f} s")
    if not outcome["is_delivered"]:
        raise typer.Exit(1)


@app.command()
def deliveries(
    hook_id: IdArgument, registry: RegistryOption = None, as_json: JsonOption = False
) -> None:
    """Its newest deliveries, and what came of them."""
    from registry import console

    with refusals(as_json), _desk(registry) as desk:
        found = desk.deliveries(hook_id)
    if as_json:
        console.print_json(found)
        return
    rows = [
        (
            each["at"][:19],
            str(each["event"]),
            str(each["status"] or "–"),
            f"{each['seconds']:.2f} s",
            each["error"],
        )
        for each in found
    ]
    console.print_rows(("when", "event", "status", "took", "error"), rows)


@contextlib.contextmanager
def _desk(location: str | None) -> Iterator[WebhookDesk]:
    from registry.webhooks.desk import open_desk

    with contextlib.closing(open_registry(location)) as opened:
        yield open_desk(opened)


def _state(hook: Mapping[str, Any]) -> str:
    if hook["disabled_at"]:
        return "given up"
    return f"{hook['failures']} failures" if hook["failures"] else "fine"
