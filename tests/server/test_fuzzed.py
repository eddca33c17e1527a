"""Odd requests to a whole server: `python -m tests.fuzz.whole 20000` is the long form."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.whole import check, fuzz, inputs, make_settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_nothing_breaks_and_nothing_stays(tmp_path: Path) -> None:
    found = await fuzz(make_settings(tmp_path), inputs(400, seed=3))
    check(found)
    assert found.num_asked > 200
