"""What the pages for contributors name is where they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATH = re.compile(r"`((?:server|registry|training|clients|tests|helm|docs)/[\w/.-]*)`")


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/structure.md"])
def test_paths_are_there(page: str) -> None:
    paths = set(PATH.findall((ROOT / page).read_text(encoding="utf-8")))
    assert len(paths) > 10
    roots = (ROOT, ROOT / "tests")  # the line about the tests leaves their own folder out
    assert [p for p in sorted(paths) if not any((root / p).exists() for root in roots)] == []
