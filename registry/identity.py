"""Who runs this process."""

from __future__ import annotations

import getpass
import os


def whoami() -> str:
    """The user's name, for histories."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid-{os.getuid()}"
