"""`extends:`, a recipe's parent: one of the built-in defaults, or another recipe's path."""

from __future__ import annotations

from pathlib import Path

from .errors import RecipeError
from .located import Located, lay, read_yaml
from .paths import anchor
from .translation import translate

EXTENDS = "extends"
DEFAULTS = Path(__file__).parent / "recipes" / "defaults"


def with_inherited(path: Path, _children: tuple[Path, ...] = ()) -> Located:
    """The recipe at `path` laid over what it extends, paths absolute, keys translated.

    Raises `RecipeError` when a parent is not there, or is its own ancestor.
    """
    located = anchor(translate(read_yaml(path)), path.parent)
    parent = located.tree.pop(EXTENDS, None)
    if parent is None:
        return located
    place = located.places[(EXTENDS,)]
    if not isinstance(parent, str):
        raise RecipeError([f"{place}: `extends`: expected one of {_names()}, or a recipe's path"])
    found = _find(parent, path, place)
    family = (*_children, path.resolve())
    if found.resolve() in family:
        raise RecipeError([f"{place}: `extends`: {parent} extends this recipe in turn"])
    over = Located(
        located.tree,
        {known: where for known, where in located.places.items() if known != (EXTENDS,)},
        located.source,
        located.notes,
    )
    merged = lay(with_inherited(found, family), over)
    return Located(merged.tree, merged.places, located.source, merged.notes)


def defaults() -> list[str]:
    """The names of the built-in defaults."""
    return sorted(path.stem for path in DEFAULTS.glob("*.yaml"))


def _names() -> str:
    return ", ".join(defaults())


def _find(name: str, child: Path, place: str) -> Path:
    if name in defaults():
        return DEFAULTS / f"{name}.yaml"
    path = child.parent / Path(name).expanduser()
    if not path.is_file():
        raise RecipeError(
            [f"{place}: `extends`: {name} is neither one of {_names()} nor a recipe's path"]
        )
    return path
