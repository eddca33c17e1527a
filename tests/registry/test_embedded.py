from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from registry import BaseRecord, Hat, Lock, Reference, Registry
from registry.canonical import digest_of
from registry.errors import (
    AdapterNotFound,
    AliasNotFound,
    AmbiguousReference,
    BaseMismatch,
    CatalogUnavailable,
    Corrupted,
    DestinationExists,
    FileRefused,
    InvalidReference,
    VersionNotFound,
)
from registry.lint import read_config
from registry.tables import version
from tests.registry.backends import Backend
from tests.registry.making import make_adapter

EVERY_BACKEND = True


def test_push_then_resolve_then_read(registry: Registry, adapter: Path, base: BaseRecord) -> None:
    Hat(system_prompt="Answer in SQL.", chat_template="{{ messages }}").write(adapter)
    version = registry.push(adapter, "sql", by="ann")
    assert (version.name, version.number, version.ref) == ("sql", 1, "sql@1")
    assert version.created_by == "ann"
    assert version.created_at.tzinfo is not None
    assert version.base_fingerprint == base.fingerprint
    assert version.is_new
    assert version.report is not None
    assert version.report.max_rank == 4
    assert registry.resolve("sql") == version
    assert registry.hat(version) == Hat.read(adapter)
    assert registry.lock(version) == Lock.read(adapter)
    files = registry.files(version)
    assert set(files) == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "hat.json",
        "lock.json",
    }
    for name in set(files) - {"lock.json"}:
        assert files[name].read_bytes() == (adapter / name).read_bytes()


def test_identity_is_the_manifests_digest_and_knows_no_time(
    registry: Registry, adapter: Path, tmp_path: Path
) -> None:
    version = registry.push(adapter, "sql")
    elsewhere = Registry.open(tmp_path / "elsewhere").push(adapter, "other", by="bob")
    assert elsewhere.digest == version.digest == digest_of(version.manifest.to_bytes())
    manifest = json.loads(version.manifest.to_bytes())
    assert manifest["artifactType"] == "application/vnd.hatstand.adapter.v1+json"
    assert [layer["annotations"]["org.opencontainers.image.title"] for layer in manifest["layers"]]
    assert version.size == sum(path.stat().st_size for path in registry.files(version).values())


def test_the_same_bytes_are_the_same_version(registry: Registry, adapter: Path) -> None:
    first = registry.push(adapter, "sql")
    again = registry.push(adapter, "sql", alias="prod")
    assert again == first
    assert not again.is_new
    assert len(registry.versions("sql")) == 1
    assert registry.aliases("sql") == {"prod": first}


def test_what_was_pulled_pushes_as_the_same_version(
    registry: Registry, adapter: Path, tmp_path: Path
) -> None:
    Hat(stop=("\n",)).write(adapter)
    version = registry.push(adapter, "sql")
    assert registry.pull("sql@1", tmp_path / "out") == version
    assert registry.push(tmp_path / "out", "sql").digest == version.digest


def test_numbers_count_up_and_a_bare_name_is_prod_or_the_newest(
    registry: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    versions = [
        registry.push(make_adapter(tmp_path / "a", seed=seed, lock=base), "sql")
        for seed in range(3)
    ]
    assert [version.number for version in versions] == [1, 2, 3]
    assert registry.resolve("sql") == versions[2]
    registry.set_alias("sql", "prod", "sql@1")
    assert registry.resolve("sql") == registry.resolve("sql@prod") == versions[0]
    assert registry.resolve(Reference("sql", number=2)) == versions[1]
    assert registry.resolve(f"sql@{versions[1].digest[:19]}") == versions[1]
    assert registry.versions("sql") == versions
    (summary,) = registry.adapters()
    assert (summary.name, summary.num_versions, summary.newest) == ("sql", 3, versions[2])
    assert summary.aliases == {"prod": 1}


def test_what_is_not_there_names_near_matches(registry: Registry, adapter: Path) -> None:
    with pytest.raises(AdapterNotFound, match="registry is empty"):
        registry.resolve("sql")
    registry.push(adapter, "text-to-sql", alias="canary")
    with pytest.raises(AdapterNotFound, match="did you mean 'text-to-sql'"):
        registry.resolve("text2sql")
    with pytest.raises(AdapterNotFound, match="there are: text-to-sql"):
        registry.resolve("zzz")
    with pytest.raises(AliasNotFound, match="did you mean 'canary'"):
        registry.resolve("text-to-sql@canari")
    for look in (registry.resolve, lambda name: registry.snapshot("text-to-sql").route(name)):
        with pytest.raises(AliasNotFound, match=r"no alias 'prod'; set: canary$"):
            look(Reference("text-to-sql", alias="prod"))
    with pytest.raises(VersionNotFound, match="the newest is 1"):
        registry.resolve("text-to-sql@7")
    with pytest.raises(VersionNotFound):
        registry.resolve("text-to-sql@sha256:" + "0" * 12)
    with pytest.raises(InvalidReference):
        registry.resolve("Text")
    for listing in (registry.versions, registry.aliases):
        with pytest.raises(AdapterNotFound):
            listing("sql")


def test_a_prefix_of_two_digests_is_ambiguous(
    registry: Registry, adapter: Path, base: BaseRecord, tmp_path: Path
) -> None:
    registry.push(adapter, "sql")
    registry.push(make_adapter(tmp_path / "b", seed=1, lock=base), "sql")
    with registry.catalog.write() as connection:
        on_table = " ON version" if connection.dialect.name == "postgresql" else ""
        connection.exec_driver_sql(f"DROP TRIGGER version_no_update{on_table}")
        for number in (1, 2):
            digest = "sha256:" + "a" * 63 + str(number)
            connection.execute(
                sa.update(version).where(version.c.number == number).values(digest=digest)
            )
    with pytest.raises(AmbiguousReference, match="fits 2 versions") as refusal:
        registry.resolve("sql@sha256:" + "a" * 20)
    assert refusal.value.status == 409
    assert registry.resolve("sql@sha256:" + "a" * 63 + "2").number == 2


def test_a_folder_without_a_lock_needs_its_base(
    registry: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    folder = make_adapter(tmp_path / "plain")
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "mistralai/Mistral-7B"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(FileRefused, match=r"--base.*names 'mistralai/Mistral-7B'") as refusal:
        registry.push(folder, "sql")
    assert refusal.value.param == "base"
    version = registry.push(folder, "sql", base=base)
    lock = registry.lock(version)
    assert lock.base == base
    assert (lock.rank, lock.adapter_dtype) == (4, "float32")
    assert lock.target_modules == ("q_proj", "v_proj")


def test_another_base_is_refused(registry: Registry, adapter: Path, base: BaseRecord) -> None:
    other = base.model_copy(update={"fingerprint": "sha256:" + "0" * 64, "name": "other"})
    with pytest.raises(BaseMismatch, match="trained on tiny-base") as refusal:
        registry.push(adapter, "sql", base=other)
    assert refusal.value.param == "base"
    fp4 = other.model_copy(update={"quantization": {"load_in_4bit": False}})
    with pytest.raises(BaseMismatch, match="quantization"):
        registry.push(adapter, "sql", base=fp4)
    assert registry.adapters() == []
    assert registry.push(adapter, "sql", base=base).number == 1


def test_a_later_version_stays_on_its_base_unless_said(
    registry: Registry, adapter: Path, base: BaseRecord, tmp_path: Path
) -> None:
    registry.push(adapter, "sql")
    other = base.model_copy(update={"fingerprint": "sha256:" + "0" * 64})
    moved = make_adapter(tmp_path / "moved", lock=other)
    with pytest.raises(BaseMismatch, match="--allow-new-base"):
        registry.push(moved, "sql", alias="prod")
    assert len(registry.versions("sql")) == 1
    assert registry.aliases("sql") == {}
    assert registry.push(moved, "sql", allow_new_base=True).number == 2


def test_pull_asks_before_it_writes_over(registry: Registry, adapter: Path, tmp_path: Path) -> None:
    version = registry.push(adapter, "sql")
    target = tmp_path / "out"
    target.mkdir()
    for name in ("mine.txt", "chat_template.jinja", "adapter_config.json"):
        (target / name).write_text("old")
    with pytest.raises(DestinationExists, match="--force"):
        registry.pull("sql", target)
    assert registry.pull("sql", target, force=True) == version
    assert sorted(path.name for path in target.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "lock.json",
        "mine.txt",
    ]
    assert read_config(target / "adapter_config.json")["r"] == 4
    with pytest.raises(DestinationExists, match="is a file"):
        registry.pull("sql", target / "mine.txt")


def test_damage_is_found_and_a_new_push_heals_it(
    registry: Registry, backend: Backend, adapter: Path, tmp_path: Path
) -> None:
    version = registry.push(adapter, "sql")
    assert [check.is_sound for check in registry.verify()] == [True]
    weights = version.manifest.files["adapter_model.safetensors"].digest
    content = registry.files(version)["adapter_model.safetensors"].read_bytes()

    backend.overwrite(registry, weights, content[:-1] + b"x")
    fresh = backend.open()
    with pytest.raises(Corrupted, match="bytes changed"):
        fresh.blobs.check(weights)
    with pytest.raises(Corrupted, match="no longer matches"):
        fresh.pull("sql", tmp_path / "out")
    assert not (tmp_path / "out" / "adapter_model.safetensors").exists()
    (check,) = fresh.verify("sql")
    assert "adapter_model.safetensors" in check.problems[0]
    assert check.report is None

    backend.overwrite(registry, weights, content[:-1])
    assert not fresh.verify("sql")[0].is_sound
    backend.overwrite(registry, weights, None)
    (check,) = fresh.verify("sql")
    assert "missing" in check.problems[0]
    with pytest.raises(Corrupted, match="missing"):
        fresh.pull("sql", tmp_path / "out2")

    assert not registry.push(adapter, "sql").is_new
    assert [check.is_sound for check in registry.verify("sql@1")] == [True]
    fresh.catalog.close()


def test_files_read_from_a_folder_are_checked_once_and_their_size_always(
    adapter: Path, tmp_path: Path
) -> None:
    opened = Registry.open(tmp_path / "local")
    version = opened.push(adapter, "sql")
    weights = opened.files(version)["adapter_model.safetensors"]
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(Corrupted, match="instead of"):
        opened.files(version)
    weights.unlink()
    with pytest.raises(Corrupted, match="missing"):
        opened.files(version)


def test_files_are_hashed_once_in_a_process(
    registry: Registry, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = registry.push(adapter, "sql")
    files = registry.files(version)

    def refuse(*_: object) -> str:
        raise AssertionError("hashed again")

    monkeypatch.setattr("registry.local_blobs.digest_file", refuse)
    assert registry.files(version) == files


def test_leases_are_taken_prolonged_and_given_back(registry: Registry, adapter: Path) -> None:
    digest = registry.push(adapter, "sql").digest
    first = registry.lease(digest, "server-1", 60)
    longer = registry.lease(digest, "server-1", 600)
    assert longer.expires_at > first.expires_at
    registry.lease(digest, "server-2", -1)
    assert registry.leases() == [longer]
    registry.release(digest, "server-1")
    registry.release(digest, "nobody")
    assert registry.leases() == []
    with pytest.raises(VersionNotFound):
        registry.lease("sha256:" + "0" * 64, "server-1", 60)


def test_opening_what_is_no_registry_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CatalogUnavailable, match="not empty"):
        Registry.open(tmp_path)
    with pytest.raises(CatalogUnavailable, match="URL"):
        Registry.open("https://registry.example")
    with pytest.raises(CatalogUnavailable, match="cannot be opened"):
        Registry.open(tmp_path / "notes.txt" / "below")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "catalog.sqlite").write_text("this is no database at all" * 100)
    with pytest.raises(CatalogUnavailable, match="cannot be used"):
        Registry.open(broken)


def test_threads_share_one_registry(registry: Registry, base: BaseRecord, tmp_path: Path) -> None:
    folders = [make_adapter(tmp_path / f"a{n}", seed=n % 4, lock=base) for n in range(8)]
    failures: list[BaseException] = []

    def work(folder: Path) -> None:
        try:
            version = registry.push(folder, "sql", alias="prod")
            assert registry.resolve(version.ref) == version
            registry.files(registry.resolve("sql"))
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(version.number for version in registry.versions("sql")) == [1, 2, 3, 4]


def test_progress_reaches_its_end(registry: Registry, adapter: Path, tmp_path: Path) -> None:
    seen: dict[str, tuple[int, int]] = {}

    def progress(what: str, done: int, total: int) -> None:
        seen[what] = (done, total)

    registry.push(adapter, "sql", progress=progress)
    registry.verify(progress=progress)
    registry.pull("sql", tmp_path / "out", progress=progress)
    assert "checking tensors" in seen
    assert any(what.startswith("copying adapter_model") for what in seen)
    assert all(done == total for done, total in seen.values())


def test_bfloat16_and_float16_adapters_are_read(
    registry: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    from tests.registry.making import adapter_tensors

    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["o_proj"]}
    tensors = adapter_tensors(config)
    narrow = {
        name: (values.view(np.uint32) >> 16).astype("uint16") for name, values in tensors.items()
    }
    folder = make_adapter(tmp_path / "bf16", tensors=narrow, **config)
    version = registry.push(folder, "bf16", base=base)
    assert registry.lock(version).adapter_dtype == "bfloat16"
    half = {name: values.astype(np.float16) for name, values in tensors.items()}
    folder = make_adapter(tmp_path / "f16", tensors=half, **config)
    assert registry.lock(registry.push(folder, "f16", base=base)).adapter_dtype == "float16"
