"""The paths of a recipe, made absolute against the folder of the file that has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .located import KeyPath, Located
from .sources import HUB

_PATHS: tuple[KeyPath, ...] = (
    ("output",),
    ("data", "train"),
    ("data", "validation"),
    ("data", "heldout"),
    ("hat", "chat_template_file"),
    ("train", "deepspeed"),
    ("forgetting", "data"),
    ("tracking", "folder"),
)
# A base is a name or a path; only what names a folder beside the recipe is a path.
_BASES: tuple[KeyPath, ...] = (("base",), ("serve_on",))


def anchor(located: Located, folder: Path) -> Located:
    """The same tree with absolute paths; what is no text is left for the check of types."""

    def absolute(value: Any) -> Any:
        if isinstance(value, list):
            return [absolute(item) for item in value]
        if not isinstance(value, str) or not value or value.startswith(HUB):
            return value
        return str((folder / Path(value).expanduser()).absolute())

    def beside(value: Any) -> Any:
        path = absolute(value)
        return path if isinstance(path, str) and Path(path).is_dir() else value

    for path in _PATHS:
        located = located.replaced(path, absolute)
    for path in _BASES:
        located = located.replaced(path, beside)
    return located
