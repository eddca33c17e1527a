"""Requests: from where and from whom they come, how long they may take, what is kept of them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class PrefixScope(StrEnum):
    """Who shares cached prefixes."""

    adapter = "adapter"
    key = "key"


def _seconds(help_text: str, default: str) -> Any:
    return typer.Option(min=0, help=help_text, show_default=default)


HostOption = Annotated[str, typer.Option(help="Other than loopback needs keys.")]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")]
KeepResponsesOption = Annotated[
    bool, typer.Option(help="Keep what /v1/responses answers, for 30 days.")
]
RequestTimeoutOption = Annotated[
    float | None, _seconds("Longest a request may take, in seconds.", "600")
]
DrainDelayOption = Annotated[
    float | None,
    _seconds("Seconds after SIGTERM until new requests are refused; /readyz is 503 at once.", "0"),
]
DrainTimeoutOption = Annotated[
    float | None, _seconds("Seconds that running requests have at the end.", "30")
]
KeysFileOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="KEY[:SCOPE+SCOPE[:TENANT[:PATTERN+PATTERN]]] lines."),
]
PrefixScopeOption = Annotated[
    PrefixScope,
    typer.Option(
        help="Who shares what was computed of a prompt's beginning: all who ask an adapter, or "
        "requests of one key, so that no other can tell from times what was asked."
    ),
]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Serve other machines without keys.")
]
