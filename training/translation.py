"""Other programs' keys become ours, and it is said which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import RecipeError
from .located import KeyPath, Located, short
from .recipe import Recipe
from .spellings import NOTHING, SECTIONS, TABLE, Refused, Spelling


def translate(located: Located) -> Located:
    """The tree with every spelling of `spellings.TABLE` replaced by ours, and a note on each.

    Foreign keys may stand at the top, in one of `spellings.SECTIONS`, or in a section of ours that
    has no such key itself. Raises `RecipeError` for values that cannot be taken over, and for a
    key that is written in both spellings.
    """
    work = _Translation(located)
    for key in located.tree:
        if key in SECTIONS:
            work.section((key,))
        elif key in TABLE and key not in Recipe.model_fields:
            work.key((key,), located.tree)
        elif key in Recipe.model_fields:
            work.known_section(key)
    if work.problems:
        raise RecipeError(work.problems)
    return Located(work.tree, work.places, located.source, (*located.notes, *work.notes))


class _Translation:
    """One file's translation as it comes together."""

    def __init__(self, located: Located) -> None:
        self._located = located
        self.tree: dict[str, Any] = {}
        self.places: dict[KeyPath, str] = {}
        self.problems: list[str] = []
        self.notes: list[str] = []
        foreign = {key for key in located.tree if key in SECTIONS or self._is_foreign(key)}
        for key, value in located.tree.items():
            if key not in foreign:
                self.tree[key] = dict(value) if isinstance(value, dict) else value
        for path, place in located.places.items():
            if path[0] not in foreign:
                self.places[path] = place

    @staticmethod
    def _is_foreign(key: str) -> bool:
        return key in TABLE and key not in Recipe.model_fields

    def section(self, path: KeyPath) -> None:
        """A whole section of foreign keys, such as `training_args`."""
        values = self._located.get(path)
        if not isinstance(values, dict):
            self.problems.append(f"{self._located.place(path)}: `{path[0]}` is not a section")
            return
        for key in values:
            if key in TABLE:
                self.key((*path, key), values)
            else:
                place = self._located.place((*path, key))
                self.problems.append(f"{place}: `{path[0]}.{key}`: unknown key")

    def known_section(self, name: str) -> None:
        """Foreign keys inside one of our sections, such as `train.num_train_epochs`."""
        values = self._located.tree[name]
        model = Recipe.model_fields[name].annotation
        fields = getattr(model, "model_fields", None)
        if not isinstance(values, dict) or fields is None:
            return
        for key in values:
            ours = [each for each in TABLE.get(key, ()) if each.target.startswith(f"{name}.")]
            if key not in fields and ours:
                del self.tree[name][key]
                self.places = {p: w for p, w in self.places.items() if p[:2] != (name, key)}
                self.key((name, key), values)

    def key(self, path: KeyPath, section: Mapping[str, Any]) -> None:
        """One foreign key, under each of our names that it has."""
        name, place = str(path[-1]), self._located.place(path)
        for spelling in TABLE[name]:
            try:
                value = spelling.convert(section[name], section)
            except Refused as reason:
                self.problems.append(f"{place}: `{name}`: {reason}")
                continue
            self._write(spelling, value, name, path)

    def _write(self, spelling: Spelling, value: Any, name: str, path: KeyPath) -> None:
        place = self._located.place(path)
        note = f" ({spelling.note})" if spelling.note else ""
        if value is NOTHING or not spelling.target:
            self.notes.append(f"{short(place)}: `{name}` changes nothing here{note}")
            return
        target: KeyPath = tuple(spelling.target.split("."))
        node = self.tree
        for depth, part in enumerate(target[:-1], start=1):
            node = node.setdefault(str(part), {})
            self.places.setdefault(target[:depth], place)
            if not isinstance(node, dict):
                where = ".".join(map(str, target[:depth]))
                self.problems.append(f"{place}: `{name}` belongs in `{where}`, which has no keys")
                return
        last = str(target[-1])
        if last in node and node[last] != value:
            other = self.places.get(target, self._located.source)
            self.problems.append(
                f"{place}: `{name}` and `{spelling.target}` ({other}) say different things"
            )
            return
        node[last] = value
        for known, where in self._located.places.items():  # of a list's items too
            if known[: len(path)] == path:
                self.places[target + known[len(path) :]] = where
        self.notes.append(f"{short(place)}: `{name}` is read as `{spelling.target}`{note}")
