"""Adapters come out of the registry packed as slots hold them, or the error says why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry import Registry, Version
from registry.adapters import AdapterSpec
from server.bases import Base, open_base
from server.engine.request import AdapterRef
from server.engine.slots import PackedAdapter
from server.errors import AdapterLoadError, RankTooHigh
from server.residency import RegistrySource
from server.residency.packing import pack
from tests.support.tiny import TinyAdapter, write_tiny_base

RANK_PATTERN = {"rank_pattern": {"k_proj": 2}, "alpha_pattern": {"v_proj": 3}}
ADAPTER = TinyAdapter("a", rank=4, alpha=8, targets=("k_proj", "v_proj", "o_proj"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return open_base(str(write_tiny_base(tmp_path_factory.mktemp("base") / "tiny")))


@pytest.fixture(scope="module")
def folder(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ADAPTER.write(base.folder, tmp_path_factory.mktemp("adapter") / "a")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "registry")


def source(registry: Registry, base: Base, max_rank: int = 16) -> RegistrySource:
    return RegistrySource(registry, base.record, base.config, max_rank)


def ref(version: Version) -> AdapterRef:
    return AdapterRef(version.digest, version.ref)


def test_a_pushed_version_is_loaded_by_its_digest(
    registry: Registry, base: Base, folder: Path
) -> None:
    version = registry.push(folder, "sql", base=base.record)
    packed = source(registry, base).load(ref(version))
    assert (packed.digest, packed.label, packed.rank) == (version.digest, "sql@1", 4)
    assert sorted(packed.sites) == [(layer, group) for layer in (0, 1) for group in ("o", "qkv")]
    assert packed.nbytes == sum(
        factors.shrink.nbytes + factors.expand.nbytes for factors in packed.sites.values()
    )


def test_packed_factors_multiply_as_peft_does(base: Base, tmp_path: Path) -> None:
    made = TinyAdapter("p", rank=4, alpha=8, targets=ADAPTER.targets, extra=RANK_PATTERN)
    folder = made.write(base.folder, tmp_path / "p")
    packed, stored = packed_from(folder, base), load_file(folder / "adapter_model.safetensors")
    factors = packed.sites[1, "qkv"]
    query, kv = base.config.projection_shape("q_proj")[0], base.config.projection_shape("k_proj")[0]
    assert factors.shrink.shape == (2 + 4, 64)
    delta = (factors.shrink.T @ factors.expand).T
    prefix = "base_model.model.model.layers.1.self_attn"
    for start, name, scaling in ((query, "k_proj", 8 / 2), (query + kv, "v_proj", 3 / 4)):
        a, b = (stored[f"{prefix}.{name}.lora_{part}.weight"] for part in "AB")
        torch.testing.assert_close(delta[start : start + kv], scaling * b @ a)
    assert not delta[:query].any()  # no q_proj in it


def packed_from(folder: Path, base: Base) -> PackedAdapter:
    config = json.loads((folder / "adapter_config.json").read_text())
    spec = AdapterSpec.from_config(config, base.record.config)
    ref = AdapterRef("digest", "label")
    return pack(ref, folder / "adapter_model.safetensors", spec, base.config)


@pytest.mark.parametrize("part", ["k_proj.lora_A", "v_proj.lora_B", "o_proj.lora_A"])
def test_a_tensor_of_another_shape_is_named(
    part: str, base: Base, folder: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes())
    stored = load_file(folder / "adapter_model.safetensors")
    name = next(name for name in stored if part in name)
    stored[name] = stored[name][:, :1].contiguous()  # one column would fit any, by broadcasting
    save_file(stored, broken / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=f"{name} has shape"):
        packed_from(broken, base)


def test_an_unknown_digest_is_an_error(registry: Registry, base: Base, folder: Path) -> None:
    registry.push(folder, "sql", base=base.record)
    missing = AdapterRef("sha256:" + "0" * 64, "sql@9")
    with pytest.raises(AdapterLoadError, match="sql@9 cannot be loaded"):
        source(registry, base).load(missing)


def test_an_adapter_of_another_base_is_refused(
    registry: Registry, base: Base, folder: Path, tmp_path: Path
) -> None:
    version = registry.push(folder, "sql", base=base.record)
    other = open_base(str(write_tiny_base(tmp_path / "other", initializer_range=0.1)))
    with pytest.raises(AdapterLoadError, match=f"trained on a base.*{other.name}"):
        source(registry, other).load(ref(version))


def test_a_rank_over_the_slots_is_refused_with_the_way_out(
    registry: Registry, base: Base, folder: Path
) -> None:
    version = registry.push(folder, "sql", base=base.record)
    with pytest.raises(RankTooHigh, match="--max-rank 4") as caught:
        source(registry, base, max_rank=2).load(ref(version))
    assert caught.value.status == 409  # clients try a 503 again, and alerts count it


def test_a_blob_that_was_damaged_is_refused(registry: Registry, base: Base, folder: Path) -> None:
    version = registry.push(folder, "sql", base=base.record)
    blob = registry.files(version)["adapter_model.safetensors"]
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-8])
    with pytest.raises(AdapterLoadError):
        source(registry, base).load(ref(version))
