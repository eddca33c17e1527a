"""Where a finished adapter goes: `--push NAME[@ALIAS]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from registry.errors import RegistryError
from registry.references import Reference

from .errors import PushError, RecipeError

if TYPE_CHECKING:
    from registry import Version


def parse_target(text: str) -> Reference:
    """Read `sql` or `sql@prod`; raises `RecipeError` on anything else, before training begins."""
    try:
        target = Reference.parse(text)
    except RegistryError as error:
        raise RecipeError([f"--push {text}: {error.message}"]) from error
    if target.number is not None or target.digest is not None:
        raise RecipeError(
            [f"--push {text}: a push makes a new version; name an alias after the @, or nothing"]
        )
    return target


def push(folder: Path, target: Reference, registry: Path | str | None) -> Version:
    """Make the folder the next version of the adapter; raises `PushError`, the folder stays."""
    from registry.opening import open_registry

    try:
        store = open_registry(registry)
        return store.push(folder, target.name, alias=target.alias, why="trained")
    except RegistryError as error:
        raise PushError(
            f"The adapter is in {folder}, but was not pushed: {error.message}"
        ) from error
