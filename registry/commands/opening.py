"""Around every command: which registry it works on, and how it ends when it is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from registry.embedded import Registry


def open_registry(folder: str | None) -> Registry:
    """The registry in `folder`, else the one under HATSTAND_HOME."""
    from registry.embedded import Registry
    from registry.homes import default_registry

    return Registry.open(default_registry() if folder is None else folder)


@contextlib.contextmanager
def refusals(as_json: bool) -> Iterator[None]:
    """Turn what is expected to go wrong into a message and an exit code."""
    from registry import console
    from registry.errors import InvalidReference, RegistryError

    try:
        yield
    except RegistryError as error:
        console.print_error(error, as_json=as_json)
        raise typer.Exit(2 if isinstance(error, InvalidReference) else 1) from None
    except OSError as failure:  # a full disk, a missing permission
        where = f"{failure.filename}: " if failure.filename else ""
        message = f"{where}{failure.strerror or failure}"
        console.print_error(RegistryError(message), as_json=as_json)
        raise typer.Exit(1) from None
