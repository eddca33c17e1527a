"""The registry through the Python client, sync and async."""

from __future__ import annotations

import pytest

from clients import AsyncHatstand, Hatstand
from clients.errors import BadRequest, Conflict, NotFound


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_the_way_of_an_alias(url: str, three: list[str]) -> None:
    with Hatstand(url, registry_path="") as client:
        registry = client.registry
        assert [version.digest for version in registry.versions("sql")] == three
        assert registry.version("sql").digest == three[2]
        first = registry.set_alias("sql", "prod", "1", expected="", why="first")
        assert (first.ref, registry.version("sql").ref) == ("sql@1", "sql@1")
        with pytest.raises(Conflict):
            registry.set_alias("sql", "prod", "2", expected=three[1])
        registry.set_alias("sql", "prod", "2", expected=three[0], why="better")
        assert registry.roll_back("sql", "prod", expected=three[1], why="slower").digest == three[0]
        moves = registry.alias_history("sql", "prod")
        assert [(move.from_number, move.to_number) for move in moves] == [(None, 1), (1, 2), (2, 1)]
        assert [move.why for move in moves] == ["first", "better", "slower"]
        [adapter] = registry.adapters(text="sq").adapters
        assert (adapter.name, adapter.num_versions, adapter.aliases) == ("sql", 3, {"prod": 1})
        assert registry.adapters(text="no").adapters == []
        assert registry.diff("sql", "1", "2")["before"]["digest"] == three[0]


def test_refusals(url: str, three: list[str]) -> None:
    assert three
    with Hatstand(url, registry_path="") as client:
        with pytest.raises(NotFound):
            client.registry.version("nobody@1")
        with pytest.raises(BadRequest):
            client.registry.adapters(metrics=["no condition"])


@pytest.mark.anyio
async def test_async(url: str, three: list[str]) -> None:
    async with AsyncHatstand(url, registry_path="") as client:
        registry = client.registry
        await registry.set_alias("sql", "prod", "1", expected="")
        assert (await registry.version("sql@prod")).digest == three[0]
        await registry.set_alias("sql", "prod", "2", expected=None)
        await registry.roll_back("sql", "prod")
        assert len(await registry.alias_history("sql", "prod")) == 3
        assert len(await registry.versions("sql")) == 3
        assert (await registry.adapters()).next is None
        assert (await registry.diff("sql", "1", "1"))["weights"]["total"]["distance"] == 0
