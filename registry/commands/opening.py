"""Around every command: which registry it works on, and how it ends when it is refused."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from registry.embedded import Registry
    from registry.opening import AnyRegistry


def open_registry(location: str | None, *, make: bool = False) -> AnyRegistry:
    """The registry in a folder or behind a URL, else the one under HATSTAND_HOME.

    make: the command may begin a registry in a folder that is not there; others refuse it, since a
    mistyped one would look like an empty registry from then on.
    """
    from registry.opening import is_remote
    from registry.opening import open_registry as open_any

    if not make and location is not None and not is_remote(location):
        _check_folder(location)
    return open_any(location)


def open_local(location: str | None, *, make: bool = False) -> Registry:
    """A registry in a folder, for commands that work only beside it; `make` as above."""
    from registry.errors import InvalidReference
    from registry.opening import is_remote
    from registry.opening import open_local as open_folder

    if location is not None and is_remote(location):
        raise InvalidReference(
            f"this command works beside the registry's folder, not through {location}",
            param="registry",
        )
    if not make and location is not None:
        _check_folder(location)
    return open_folder(location)


def _check_folder(location: str) -> None:
    """InvalidReference for a folder that is not there; a catalog elsewhere needs none."""
    from registry.errors import InvalidReference
    from registry.opening import DATABASE_VARIABLE

    if not os.environ.get(DATABASE_VARIABLE) and not Path(location).expanduser().is_dir():
        raise InvalidReference(
            f"there is no registry at {location}: `registry push` or `registry serve` begins one",
            param="registry",
        )


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
