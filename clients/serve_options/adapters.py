"""Adapters: which are there from the start, and which versions may be served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clients.completing import from_registry

PinOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Load at start, never evict.",
        autocompletion=from_registry("references"),
    ),
]
RequireReceiptOption = Annotated[
    bool,
    typer.Option(
        "--require-receipt", help="Follow a moved alias once its receipt was replayed here."
    ),
]
RequireSignatureOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="Serve only versions that this public key (PEM) has signed; may be repeated.",
    ),
]
FineTuningOption = Annotated[
    bool, typer.Option("--fine-tuning", help="Take training jobs, for `hatstand worker`.")
]
