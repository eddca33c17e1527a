"""Python's regular expressions without backtracking, for patterns that strangers wrote.

`(a+)+b` keeps `re` busy for years on a module name of forty letters. Here a pattern's syntax tree
is walked with sets of positions: what can end where, each part asked once per position. Whether a
text matches is the same as with `re`; what groups caught is not kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

_parser: Any = import_module("re._parser")  # no public door leads to the syntax tree

_DEEPEST = 40  # groups within groups
_FEW = 3  # places to choose at that `re`, which is quicker, may try in all combinations
_MANY = 1000

# Positions as the bits of an integer: bit 3 is between the third and the fourth character.
Positions = int
Node = Callable[["_Walk", int], Positions]


class UnusablePattern(ValueError):
    """The pattern is no regular expression, or needs what only backtracking can do."""


class TooManySteps(UnusablePattern):
    """The patterns under `key` want more work than all of them together may have."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} takes too many steps to match against the base's modules")
        self.key = key


class Budget:
    """Steps that all patterns under one key may take together, some seconds' worth."""

    def __init__(self, key: str, steps: int = 2_000_000) -> None:
        self._key = key
        self._left = steps

    def spend(self) -> None:
        """Take one step; raises `TooManySteps`."""
        self._left -= 1
        if self._left < 0:
            raise TooManySteps(self._key)


class Pattern:
    """One compiled pattern. Raises `UnusablePattern`; matching may raise `TooManySteps`."""

    def __init__(self, text: str, budget: Budget | None = None) -> None:
        self.text = text
        self._budget = budget or Budget("the pattern")
        try:
            compiled = re.compile(text)
            tree = _parser.parse(text)
        except (re.error, OverflowError, RecursionError) as failure:
            raise UnusablePattern(str(failure)) from None
        if compiled.flags != re.UNICODE:
            raise UnusablePattern("flags such as (?i) are not supported")
        self._node = _sequence(tree, depth=0)
        self._plain = compiled if _num_choices(tree) <= _FEW else None

    def __repr__(self) -> str:
        return repr(self.text)

    def matches_start(self, text: str) -> bool:
        """`re.match`: whether some beginning of `text` matches."""
        if self._plain is not None:
            self._budget.spend()
            return self._plain.match(text) is not None
        return _Walk(text, self._budget).ends(self._node, 0) != 0

    def matches_all(self, text: str) -> bool:
        """`re.fullmatch`: whether all of `text` matches."""
        if self._plain is not None:
            self._budget.spend()
            return self._plain.fullmatch(text) is not None
        return bool(_Walk(text, self._budget).ends(self._node, 0) >> len(text) & 1)


class _Walk:
    """What is known so far about one text: where each part ends, begun at each position."""

    def __init__(self, text: str, budget: Budget) -> None:
        self.text = text
        self._budget = budget
        self._known: dict[tuple[int, int], Positions] = {}

    def ends(self, node: Node, start: int) -> Positions:
        """Where `node` may end when it begins at `start`."""
        key = (id(node), start)
        if key not in self._known:
            self._budget.spend()
            self._known[key] = node(self, start)
        return self._known[key]

    def ends_of_all(self, node: Node, starts: Positions) -> Positions:
        """Where `node` may end when it begins at any of `starts`."""
        ends = 0
        while starts:
            lowest = starts & -starts
            ends |= self.ends(node, lowest.bit_length() - 1)
            starts ^= lowest
        return ends


def _sequence(tree: Sequence[tuple[Any, Any]], depth: int) -> Node:
    if depth > _DEEPEST:
        raise UnusablePattern(f"groups are nested over {_DEEPEST} deep")
    parts = [_node(str(operation), argument, depth) for operation, argument in tree]

    def walk(walk: _Walk, start: int) -> Positions:
        positions = 1 << start
        for part in parts:
            positions = walk.ends_of_all(part, positions)
            if not positions:
                break
        return positions

    return walk


def _node(operation: str, argument: Any, depth: int) -> Node:
    """One node of the syntax tree, named as `re._constants` names it."""
    if operation in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
        return _character(operation, argument)
    if operation == "SUBPATTERN":
        _, added, removed, tree = argument
        if added or removed:
            raise UnusablePattern("flags such as (?i:…) are not supported")
        return _sequence(tree, depth + 1)
    if operation == "BRANCH":
        return _branch([_sequence(tree, depth + 1) for tree in argument[1]])
    if operation in ("MAX_REPEAT", "MIN_REPEAT"):
        least, most, tree = argument
        return _repeat(least, most, _sequence(tree, depth + 1))
    if operation == "AT":
        return _anchor(str(argument))
    if operation in ("ASSERT", "ASSERT_NOT"):
        direction, tree = argument
        width = tree.getwidth()[0] if direction < 0 else 0
        return _look(_sequence(tree, depth + 1), width, direction, wanted=operation == "ASSERT")
    if operation == "FAILURE":
        return lambda _walk, _start: 0
    raise UnusablePattern(f"{operation.lower().replace('_', ' ')} is not supported")


def _num_choices(tree: Sequence[tuple[Any, Any]]) -> int:
    """Places where a match may go on in several ways; one inside a loop counts as many."""
    total = 0
    for operation, argument in tree:
        name = str(operation)
        if name == "SUBPATTERN":
            total += _num_choices(argument[3])
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            inside = _num_choices(argument[2])
            total += 1 + (inside if argument[1] <= 1 else inside * _MANY)
        elif name == "BRANCH":
            total += len(argument[1]) + sum(map(_num_choices, argument[1]))
        elif name.startswith("ASSERT"):
            total += _MANY
    return total


def _character(operation: str, argument: Any) -> Node:
    accepts = _accepts(operation, argument)

    def walk(walk: _Walk, start: int) -> Positions:
        fits = start < len(walk.text) and accepts(walk.text[start])
        return 1 << (start + 1) if fits else 0

    return walk


def _accepts(operation: str, argument: Any) -> Callable[[str], bool]:
    """Whether one character fits: a literal, `.`, or a class such as `[^a-z\\d]`."""
    if operation == "LITERAL":
        return lambda character: ord(character) == argument
    if operation == "NOT_LITERAL":
        return lambda character: ord(character) != argument
    if operation == "ANY":
        return lambda character: character != "\n"
    if operation == "RANGE":
        return lambda character: argument[0] <= ord(character) <= argument[1]
    if operation == "CATEGORY":
        return _category(str(argument))
    members = [(str(name), value) for name, value in argument]
    negated = members[0][0] == "NEGATE"
    tests = [_accepts(name, value) for name, value in members[negated:]]
    return lambda character: negated != any(test(character) for test in tests)


def _category(name: str) -> Callable[[str], bool]:
    kind = name.removeprefix("CATEGORY_").removeprefix("NOT_")
    tests: dict[str, Callable[[str], bool]] = {
        "DIGIT": str.isdecimal,
        "SPACE": str.isspace,
        "WORD": _is_word,
    }
    return tests[kind] if "NOT_" not in name else lambda character: not tests[kind](character)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _branch(parts: Sequence[Node]) -> Node:
    def walk(walk: _Walk, start: int) -> Positions:
        ends = 0
        for part in parts:
            ends |= walk.ends(part, start)
        return ends

    return walk


def _repeat(least: int, most: int, part: Node) -> Node:
    """`part`, `least` to `most` times.

    Once a round changes nothing no later one will. That comes within as many rounds as there are
    positions: what stays longer has a place where `part` may match nothing at all.
    """

    def walk(walk: _Walk, start: int) -> Positions:
        frontier = 1 << start
        ends = frontier if least == 0 else 0
        for count in range(1, int(most) + 1):
            following = walk.ends_of_all(part, frontier)
            if count >= least:
                ends |= following
            if following in (0, frontier):
                return ends | following  # 0, or what every later round gives again
            frontier = following
        return ends

    return walk


def _anchor(name: str) -> Node:
    def holds(text: str, start: int) -> bool:
        if name in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
            return start == 0
        if name == "AT_END":
            return start == len(text) or (start == len(text) - 1 and text[start] == "\n")
        if name == "AT_END_STRING":
            return start == len(text)
        sides = [0 <= place < len(text) and _is_word(text[place]) for place in (start - 1, start)]
        return (sides[0] != sides[1]) == (name == "AT_BOUNDARY")

    return lambda walk, start: 1 << start if holds(walk.text, start) else 0


def _look(part: Node, width: int, direction: int, *, wanted: bool) -> Node:
    """What follows, or precedes, must match or must not; nothing is consumed."""

    def walk(walk: _Walk, start: int) -> Positions:
        if direction < 0:
            begin = start - width
            found = begin >= 0 and bool(walk.ends(part, begin) >> start & 1)
        else:
            found = walk.ends(part, start) != 0
        return 1 << start if found == wanted else 0

    return walk


def branches_at_top(text: str) -> bool:
    """Whether a `|` stands outside all parentheses: inside a larger pattern it would split that."""
    depth = 0
    outside = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "", text, flags=re.DOTALL)
    for character in outside:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "|" and depth == 0:
            return True
    return False
