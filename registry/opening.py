"""A registry by where it is: a folder, or the URL of a server."""

from __future__ import annotations

import os
from pathlib import Path

from .embedded import BACKUP_MARK, Registry
from .errors import CatalogUnavailable
from .homes import default_registry
from .remote.registry import RemoteRegistry

AnyRegistry = Registry | RemoteRegistry

DATABASE_VARIABLE = "HATSTAND_DATABASE"
BLOBS_VARIABLE = "HATSTAND_BLOBS"
_ELSEWHERE = (DATABASE_VARIABLE, BLOBS_VARIABLE)


def is_remote(location: str | os.PathLike[str]) -> bool:
    """Whether a location is a server's URL."""
    return os.fspath(location).startswith(("http://", "https://"))


def open_registry(location: str | os.PathLike[str] | None = None) -> AnyRegistry:
    """The registry at a folder or URL, else the one under HATSTAND_HOME.

    A registry in a folder keeps its catalog and blobs where `HATSTAND_DATABASE` and
    `HATSTAND_BLOBS` say, if they say anything. Raises `CatalogUnavailable`.
    """
    where = default_registry() if location is None else location
    return RemoteRegistry.open(os.fspath(where)) if is_remote(where) else open_local(where)


def open_local(location: str | os.PathLike[str] | None = None) -> Registry:
    """The registry in a folder, for what can be done only beside it.

    Raises `CatalogUnavailable` too for a backup that the environment would put another registry's
    catalog or blobs in place of.
    """
    folder = Path(default_registry() if location is None else location)
    database, blobs = (os.environ.get(name) or None for name in _ELSEWHERE)
    if (database or blobs) and (folder.expanduser() / BACKUP_MARK).exists():
        raise CatalogUnavailable(
            f"{folder} is a backup, which has all in its folder: unset {' and '.join(_ELSEWHERE)}, "
            f"or remove {BACKUP_MARK!r} from it if it shall be a registry that lies elsewhere"
        )
    return Registry.open(folder, database=database, blobs=blobs)
