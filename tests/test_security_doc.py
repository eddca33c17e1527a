"""docs/security.md names tests: each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_named_test_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in {node.name for node in tree.body if isinstance(node, functions)}


def test_every_threat_names_one() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and line.count("|") >= 4]
    threats = rows[rows.index("| threat | what holds | tests |") :]
    without = [row for row in threats if "| threat |" not in row and "::test_" not in row]
    assert without == []
    assert len(NAMED) > 40
