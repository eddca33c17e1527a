"""`registry serve`: the registry as a server of its own."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from registry.logs import LogFormat

from .opening import open_local, refusals
from .options import RegistryOption


def serve(
    host: Annotated[str, typer.Option(help="Other than loopback needs keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8100,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="HATSTAND_DATABASE",
            help="postgresql://… for the catalog, else SQLite in the folder.",
            show_default=False,
        ),
    ] = None,
    blobs: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="HATSTAND_BLOBS",
            help="s3://, gs:// or az:// for the bytes, else the folder.",
            show_default=False,
        ),
    ] = None,
    webhook_networks: Annotated[
        str | None,
        typer.Option(
            metavar="CIDRS",
            envvar="HATSTAND_WEBHOOK_NETWORKS",
            help="Networks that webhooks may lead to beside public addresses: 10.0.0.0/8,…",
            show_default=False,
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve other machines without keys.")
    ] = False,
    log_format: Annotated[
        LogFormat,
        typer.Option(envvar="HATSTAND_LOG_FORMAT", help="Lines for people, or JSON objects."),
    ] = "text",
    registry: RegistryOption = None,
) -> None:
    """Serve the registry over HTTP until Ctrl-C."""
    from registry import console

    with refusals(as_json=False):
        from registry.api.serving import Address
        from registry.api.serving import serve as run

        for name, value in (
            ("HATSTAND_DATABASE", database),
            ("HATSTAND_BLOBS", blobs),
            ("HATSTAND_WEBHOOK_NETWORKS", webhook_networks),
        ):
            if value:
                os.environ[name] = value
        opened = open_local(registry, make=True)
        run(
            opened,
            Address(host, port),
            insecure=insecure,
            log_format=log_format,
            announce=lambda url: console.print_line(f"Registry on {url} (Ctrl-C stops)"),
        )
