"""YAML read together with the place of every key, so that an error can name its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from .errors import RecipeError

KeyPath = tuple[str | int, ...]

_MOST_DIGITS = 640  # of a whole number; how many more Python reads is a setting of its own


class _CoreLoader(yaml.SafeLoader):
    """Scalars as YAML 1.2 reads them.

    PyYAML follows YAML 1.1, in which `1e-3` is a string and `no` is false: the first makes every
    learning rate an error, the second a stop word a boolean.
    """


_CoreLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _CoreLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first
    )


@dataclass(frozen=True)
class Located:
    """A tree of plain values, and for every key path the place it was written at."""

    tree: dict[str, Any]
    places: Mapping[KeyPath, str]  # ("train", "epochs") -> "recipe.yaml:12"
    source: str
    notes: tuple[str, ...] = ()  # what a person may want to know, such as a key written twice

    def place(self, path: KeyPath) -> str:
        """Where `path` was written, or else the nearest of its parents that was."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return self.source

    def known(self, path: KeyPath) -> KeyPath:
        """The longest leading part of `path` that was really written."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return path[:length]
        return ()

    def get(self, path: KeyPath) -> Any:
        """The value at `path`; None where there is none."""
        value: Any = self.tree
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def replaced(self, path: KeyPath, change: Callable[[Any], Any]) -> Located:
        """With `change` applied to the value at `path`, if that was written."""
        if path not in self.places:
            return self
        tree = _copy(self.tree)
        section = tree
        for part in path[:-1]:
            section = section[part]
        section[path[-1]] = change(section[path[-1]])
        return replace(self, tree=tree)


def read_yaml(path: Path) -> Located:
    """Read a YAML mapping from `path`.

    Raises `RecipeError` when the file cannot be read, is not YAML, is not a mapping, or writes a
    key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RecipeError([f"{path}: no such file"]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError([f"{path}: cannot be read: {error}"]) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Located:
    """`read_yaml` for text already at hand; `source` names it in messages."""
    reading = _Reading(source, {}, [], [])
    try:
        root = yaml.compose(text, Loader=_CoreLoader)
        if not isinstance(root, yaml.MappingNode):
            raise RecipeError([f"{source}: expected `key: value` lines at the top"])
        tree = reading.plain(root, ())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError([f"{source}:{line}: not valid YAML: {error.problem}"]) from error
    except yaml.YAMLError as error:
        raise RecipeError([f"{source}: not valid YAML: {error}"]) from error
    except RecursionError as error:
        raise RecipeError([f"{source}: a value is nested too deeply, or in itself"]) from error
    if reading.problems:
        raise RecipeError(reading.problems)
    return Located(tree, reading.places, source, tuple(reading.notes))


def assignment(text: str) -> Located:
    """The tree of one `--set key.path=value`.

    Values are read as YAML, so `--set lora.target_modules=[q_proj,v_proj]` is a list.
    """
    place = f"--set {text}"
    dotted, equals, value = text.partition("=")
    keys: KeyPath = tuple(dotted.strip().split("."))
    if not equals or not all(keys):
        raise RecipeError([f"{place}: expected key=value, such as train.epochs=2"])
    inside = parse_yaml(f"value: {value}", place)
    tree: Any = inside.tree["value"]
    for key in reversed(keys):
        tree = {key: tree}
    places = {keys[:depth]: place for depth in range(1, len(keys) + 1)}
    places |= {keys + path[1:]: place for path in inside.places}
    return Located(tree, places, place)


def lay(under: Located, over: Located) -> Located:
    """`under` with the keys of `over` laid over it, section by section.

    A list, an empty section or a single value replaces what was there. Raises `RecipeError` where
    `over` has keys inside something that is no section.
    """
    places = dict(under.places)

    def merged(below: Any, above: Any, path: KeyPath) -> Any:
        if isinstance(above, dict) and above and below is not None:
            if not isinstance(below, dict):
                raise RecipeError([f"{over.source}: `{_dotted(path)}` is not a section"])
            return below | {k: merged(below.get(k), v, (*path, k)) for k, v in above.items()}
        for old in [known for known in places if known[: len(path)] == path]:
            del places[old]
        return above

    tree = merged(under.tree, over.tree, ())
    return Located(tree, places | dict(over.places), under.source, under.notes + over.notes)


@dataclass(frozen=True)
class _Reading:
    """What is gathered on the way from nodes to plain values."""

    source: str
    places: dict[KeyPath, str]
    problems: list[str]
    notes: list[str]

    def plain(self, node: yaml.Node, path: KeyPath) -> Any:
        """A node as plain values, noting the place of each key and list item."""
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.places[(*path, index)] = f"{self.source}:{item.start_mark.line + 1}"
            return [self.plain(item, (*path, index)) for index, item in enumerate(node.value)]
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value_node, line in _pairs(node):
            place = f"{self.source}:{line}"
            value = self.plain(value_node, (*path, key))
            if key in result and result[key] == value:
                self.notes.append(f"{short(place)}: `{key}` is written twice, with one value")
            elif key in result:
                self.problems.append(f"{place}: the key `{key}` is written twice")
            self.places[(*path, key)] = place
            result[key] = value
        return result


def _pairs(node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node, int]]:
    for key_node, value_node in node.value:
        yield str(key_node.value), value_node, key_node.start_mark.line + 1


def _scalar(node: yaml.Node) -> Any:
    kind, text = node.tag.rpartition(":")[2], str(node.value)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        return int(text) if len(text) <= _MOST_DIGITS else text  # no whole number then
    if kind == "float":
        return float(text)
    return text


def _copy(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _copy(value) for key, value in tree.items()}
    return list(tree) if isinstance(tree, list) else tree


def short(place: str) -> str:
    """A place without its folders: what is kept must read the same on every machine."""
    return place if place.startswith("--set") else Path(place).name


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))
