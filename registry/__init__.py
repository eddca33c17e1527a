"""Where adapters live: immutable versions, movable aliases, content-addressed blobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapters import AdapterSpec
    from .bases import BaseRecord
    from .embedded import Registry
    from .errors import RegistryError
    from .hats import Hat
    from .lock import Lock
    from .references import Reference
    from .versions import Version

__all__ = [
    "AdapterSpec",
    "BaseRecord",
    "Hat",
    "Lock",
    "Reference",
    "Registry",
    "RegistryError",
    "Version",
]

_HOMES = {
    "AdapterSpec": "adapters",
    "BaseRecord": "bases",
    "Hat": "hats",
    "Lock": "lock",
    "Reference": "references",
    "Registry": "embedded",
    "RegistryError": "errors",
    "Version": "versions",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for: `registry --help` needs no database."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
