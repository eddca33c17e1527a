"""`hatstand train --reproduce`: a version trained again."""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer


def reproduce(
    reference: str, *, data: Path | None, output: Path | None, registry: str | None
) -> None:
    """Train a version again, say what differs, and leave with status 1 if its tensors do."""
    from training.reproduction import reproduce as run

    with tempfile.TemporaryDirectory() as scratch:
        found = run(
            reference,
            data=data or Path.cwd(),
            output=output or Path(scratch) / reference.partition("@")[0],
            registry=registry,
        )
    if not found.is_same:
        raise typer.Exit(1)
