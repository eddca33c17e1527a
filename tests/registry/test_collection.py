"""Collections remove what nothing needs, and nothing else, whoever works beside them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry import BaseRecord, Registry
from registry.canonical import digest_file
from registry.collection import collect, explain
from registry.commit import NewVersion
from registry.errors import BlobsMissing
from registry.referrers import add_referrer
from tests.registry.backends import Backend
from tests.registry.making import make_adapter

EVERY_BACKEND = True


def stored(registry: Registry) -> set[str]:
    return {blob.digest for blob in registry.blobs.list()}


def test_what_is_needed_stays(registry: Registry, base: BaseRecord, tmp_path: Path) -> None:
    for seed in range(2):
        registry.push(make_adapter(tmp_path / "a", seed=seed, lock=base), "sql")
    add_referrer(registry, registry.resolve("sql@1"), "x/y", {"approved": True}, by="ann")
    before = stored(registry)
    done = collect(registry, grace=0)
    assert (done.collected, done.spared) == ((), ())
    assert done.num_kept == len(before)
    assert stored(registry) == before


def test_a_withdrawn_version_goes_and_shared_blobs_stay(
    registry: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    registry.push(make_adapter(tmp_path / "a", lock=base), "sql")
    second = registry.push(make_adapter(tmp_path / "b", seed=1, lock=base), "sql")
    add_referrer(registry, second, "x/y", {"approved": True}, by="ann")
    registry.withdraw("sql@2")
    looked = collect(registry, grace=0, dry_run=True)
    assert looked.is_dry_run
    assert second.digest in stored(registry)
    assert explain(registry, second.digest) == "of a withdrawn version"
    done = collect(registry, grace=0)
    assert {blob.digest for blob in done.collected} == {blob.digest for blob in looked.collected}
    assert second.manifest.files["adapter_model.safetensors"].digest not in stored(registry)
    assert [check.is_sound for check in registry.verify()] == [True]
    assert registry.push(tmp_path / "b", "sql").number == 2
    assert [check.is_sound for check in registry.verify()] == [True, True]


def test_a_lease_keeps_what_a_server_uses(registry: Registry, adapter: Path) -> None:
    version = registry.push(adapter, "sql")
    registry.lease(version.digest, "server-1", 600)
    registry.withdraw("sql@1")
    assert collect(registry, grace=0).collected == ()
    registry.release(version.digest, "server-1")
    assert len(collect(registry, grace=0).collected) == 4


def test_the_young_are_spared_and_explained(registry: Registry, tmp_path: Path) -> None:
    orphan = tmp_path / "orphan"
    orphan.write_bytes(os.urandom(100))
    digest = digest_file(orphan)
    registry.blobs.put(digest, orphan)
    done = collect(registry, grace=3600)
    assert [blob.digest for blob in done.spared] == [digest]
    assert explain(registry, digest) == "stored by a push that was not committed"
    assert collect(registry, grace=0).freed == 100


def test_a_push_whose_blobs_are_collected_under_it_stores_them_again(
    registry: Registry, backend: Backend, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collection comes between the upload and the commit, each time but the last."""
    commit, times = registry.commit, []

    def collect_first(*arguments: object, **named: object) -> object:
        if len(times) < 2:
            times.append(len(collect(registry, grace=0).collected))
        return commit(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(registry, "commit", collect_first)
    version = registry.push(adapter, "sql")
    assert times == [4, 4]
    assert version.number == 1
    again = backend.open()
    assert [check.is_sound for check in again.verify()] == [True]
    again.close()


def test_a_commit_without_its_blobs_is_refused(
    registry: Registry, adapter: Path, base: BaseRecord, tmp_path: Path
) -> None:
    version = Registry.open(tmp_path / "elsewhere").push(adapter, "sql")
    with pytest.raises(BlobsMissing) as refusal:
        registry.commit("sql", NewVersion(version.manifest, base.fingerprint, "ann"))
    assert len(refusal.value.digests) == 4
    assert registry.adapters() == []
