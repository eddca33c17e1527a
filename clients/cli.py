"""The `hatstand` command line. Each command imports what it needs when it runs."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .chat_command import chat
from .completing import registry_is_asked, rejoin_words
from .evaluate_command import evaluate, perplexity
from .failures import explained
from .plan_command import plan
from .serve_command import serve
from .train_command import train
from .worker_command import worker

app = typer.Typer(
    name="hatstand",
    help="One resident 4-bit Mistral, many LoRA adapters, one OpenAI-compatible URL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
base = typer.Typer(help="Base models.", no_args_is_help=True)

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


class BenchDevice(StrEnum):
    """Where a base can be measured."""

    cpu = "cpu"
    cuda = "cuda"


def main() -> None:
    """Entry point of the `hatstand` script."""
    rejoin_words("_HATSTAND_COMPLETE")
    if registry_is_asked():
        from registry.cli import app as registry_app

        registry_app(prog_name="registry")
    app()


@app.callback(invoke_without_command=True)
def hatstand(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(_version())
        raise typer.Exit


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Exit after the table.")] = False,
    port: Annotated[int, typer.Option(help="Where to keep serving.")] = 8000,
    keep: Annotated[
        Path | None, typer.Option(help="Keep all of it in this folder.", metavar="DIR")
    ] = None,
) -> None:
    """Train two adapters, push, serve, compare; on two cores, in minutes."""
    with explained("demo", extra="server,training"):
        from clients.demo import story

        story.run(once=once, port=port, keep=keep)


app.add_typer(base, name="base")
app.command()(serve)
app.command()(plan)
app.command()(worker)


app.command()(train)
app.command()(evaluate)
app.command()(perplexity)
app.command()(chat)


@base.command("pull")
def pull_base(
    source: Annotated[str, typer.Argument(help="smollm2-135m, a Hub id (org/name), or a folder.")],
    name: Annotated[str | None, typer.Option(help="What to call it here.")] = None,
    nf4: Annotated[bool, typer.Option("--nf4", help="Store it in 4 bits.")] = False,
    revision: Annotated[str | None, typer.Option(help="A Hub commit, tag or branch.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: its folder, name and fingerprint.")
    ] = False,
) -> None:
    """Bring a base into the cache; at once if it is there already."""
    from .progress import show_progress

    with explained("base pull", extra="server"), show_progress() as report:
        from registry.bases import read_base
        from server.bases import pull

        folder = pull(source, name=name, nf4=nf4, revision=revision, progress=report)
        if as_json:
            record = read_base(folder)
            found = {"folder": str(folder), "name": record.name, "fingerprint": record.fingerprint}
    typer.echo(json.dumps(found, indent=2) if as_json else folder)


@base.command("list")
def list_bases(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: names and folders.")] = False,
) -> None:
    """The bases in the cache, by the names that `--base` takes."""
    with explained("base list"):
        from registry.bases import pulled_bases

        folders = pulled_bases()
    if as_json:
        found = [{"name": folder.name, "folder": str(folder)} for folder in folders]
        typer.echo(json.dumps(found, indent=2))
    elif folders:
        typer.echo("\n".join(folder.name for folder in folders))
    else:
        typer.echo("None yet. Pull one: hatstand base pull smollm2-135m", err=True)


@app.command()
def bench(
    base_model: Annotated[
        str, typer.Option("--base", help="A base's name or folder.")
    ] = "smollm2-135m",
    device: Annotated[BenchDevice, typer.Option(help="Where the base lives.")] = BenchDevice.cpu,
    streams: Annotated[int, typer.Option(min=1, help="Sequences at once.")] = 8,
    adapters: Annotated[int, typer.Option(min=0, help="Different adapters.")] = 4,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="SECTION", help="On cuda: decode, prefill, latency, http, …"),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here.")
    ] = None,
) -> None:
    """Measure the engine against transformers and peft on the same weights."""
    with explained("bench", extra="server,training"):
        from server import bench as benchmark

        benchmark.run(
            base=base_model,
            device=device.value,
            streams=streams,
            adapters=adapters,
            only=only or (),
            json_file=json_file,
        )


@app.command(add_help_option=False, context_settings=PASSED_ON)
def registry(context: typer.Context) -> None:
    """The adapter registry: push, pull, list, show, alias, verify (same as `registry`)."""
    with explained("registry"):
        from registry.cli import app as registry_app

        registry_app(context.args, prog_name="hatstand registry")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    for package in ("hatstand", "hatstand-client"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "unknown"
