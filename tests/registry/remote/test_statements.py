"""What is said about a version is the same, said here or through a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry import Registry
from registry.errors import InvalidRequest
from registry.referrers import EVALUATION, list_referrers
from registry.remote.registry import RemoteRegistry
from registry.statements import state


def test_the_same_statement_from_both_sides_is_one(
    remote: RemoteRegistry, registry: Registry, adapter: Path
) -> None:
    version = registry.push(adapter, "sql")
    content = {"metrics": {"exact_match": 0.75}}
    digest = state(remote, remote.resolve("sql"), EVALUATION, content)
    assert state(registry, version, EVALUATION, content) == digest
    assert [each.digest for each in list_referrers(registry, version.digest)] == [digest]


def test_what_is_no_number_is_refused_from_both_sides(
    remote: RemoteRegistry, registry: Registry, adapter: Path
) -> None:
    version = registry.push(adapter, "sql")
    for store in (remote, registry):
        with pytest.raises(InvalidRequest, match="no finite number"):
            state(store, version, EVALUATION, {"metrics": {"exact_match": "high"}})
