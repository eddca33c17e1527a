"""YAML read together with the place of every key, so that an error can name its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .errors import RecipeError

KeyPath = tuple[str | int, ...]


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


def read_yaml(path: Path) -> Located:
    """Read a YAML mapping from `path`.

    Raises `RecipeError` when the file cannot be read, is not YAML, is not a mapping, or writes a
    key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError([f"{path}: cannot be read: {error}"]) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Located:
    """`read_yaml` for text already at hand; `source` names it in messages."""
    try:
        root = yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError([f"{source}:{line}: not valid YAML: {error.problem}"]) from error
    except yaml.YAMLError as error:
        raise RecipeError([f"{source}: not valid YAML: {error}"]) from error
    if not isinstance(root, yaml.MappingNode):
        raise RecipeError([f"{source}: expected `key: value` lines at the top"])
    places: dict[KeyPath, str] = {}
    problems: list[str] = []
    tree = _plain(root, (), source, places, problems)
    if problems:
        raise RecipeError(problems)
    return Located(tree, places, source)


def override(located: Located, assignments: Sequence[str]) -> Located:
    """Lay `--set key.path=value` assignments over a tree, the last one winning.

    Values are read as YAML, so `--set lora.target_modules=[q_proj,v_proj]` is a list.
    """
    tree, places = _copy(located.tree), dict(located.places)
    for assignment in assignments:
        place = f"--set {assignment}"
        dotted, equals, value = assignment.partition("=")
        keys = tuple(dotted.strip().split("."))
        if not equals or not all(keys):
            raise RecipeError([f"{place}: expected key=value, such as train.epochs=2"])
        inside = parse_yaml(f"value: {value}", place)
        target: Any = tree
        for depth, key in enumerate(keys[:-1], start=1):
            places.setdefault(keys[:depth], place)
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                raise RecipeError([f"{place}: `{'.'.join(keys[:depth])}` is not a section"])
        target[keys[-1]] = inside.tree.get("value")
        places = {p: w for p, w in places.items() if p[: len(keys)] != keys}
        places |= {keys + path[1:]: place for path in inside.places}
    return Located(tree, places, located.source)


def _plain(
    node: yaml.Node, path: KeyPath, source: str, places: dict[KeyPath, str], problems: list[str]
) -> Any:
    """Turn a node into plain values, noting the place of each key and list item."""
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key, value_node, line in _pairs(node):
            place = f"{source}:{line}"
            if key in result:
                problems.append(f"{place}: the key `{key}` is written twice")
            places[(*path, key)] = place
            result[key] = _plain(value_node, (*path, key), source, places, problems)
        return result
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            places[(*path, index)] = f"{source}:{item.start_mark.line + 1}"
        return [
            _plain(item, (*path, index), source, places, problems)
            for index, item in enumerate(node.value)
        ]
    return _scalar(node)


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
        return int(text)
    if kind == "float":
        return float(text)
    return text


def _copy(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _copy(value) for key, value in tree.items()}
    return list(tree) if isinstance(tree, list) else tree
