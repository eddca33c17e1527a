"""Where Hatstand keeps its state: one folder, moved as a whole by HATSTAND_HOME."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path


def hatstand_home() -> Path:
    """The folder of all state: `HATSTAND_HOME` if set, else the user's data folder."""
    chosen = os.environ.get("HATSTAND_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return user_data_path("hatstand", appauthor=False)


def base_cache() -> Path:
    """Pulled bases, one folder each."""
    return hatstand_home() / "bases"


def default_registry() -> Path:
    """The embedded registry that commands use unless told otherwise."""
    return hatstand_home() / "registry"


def adapter_cache() -> Path:
    """A server's local copies of adapter files."""
    return hatstand_home() / "cache"


def kernel_cache() -> Path:
    """Compiled CPU kernels, by what they were compiled from."""
    return hatstand_home() / "kernels"
