"""Around every command: which registry it works on, and how it ends when it is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from registry.embedded import Registry
    from registry.opening import AnyRegistry


def open_registry(location: str | None) -> AnyRegistry:
    """The registry in a folder or behind a URL, else the one under HATSTAND_HOME."""
    from registry.opening import open_registry as open_any

    return open_any(location)


def open_local(location: str | None) -> Registry:
    """A registry in a folder, for commands that work only beside it."""
    from registry.errors import InvalidReference
    from registry.opening import is_remote
    from registry.opening import open_local as open_folder

    if location is not None and is_remote(location):
        raise InvalidReference(
            f"this command works beside the registry's folder, not through {location}",
            param="registry",
        )
    return open_folder(location)


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
