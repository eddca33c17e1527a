"""Compositions in host memory: exactly the weighted sum, however the factors are laid out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.adapters import AdapterSpec
from server.bases import Base, open_base
from server.engine.arena import Arena, Blob
from server.engine.composition import compose, is_composed, members
from server.engine.config import GROUPS
from server.engine.request import AdapterRef, WeightedAdapter
from server.engine.slots import PackedAdapter
from server.engine.step_kernels import Unpack
from server.errors import CompositionTooLarge
from server.kernels.triton.site import EXPAND, RANK, SHRINK
from server.kernels.triton.twins.unpack import unpack as unpack_twin
from server.kernels.triton.unpack import unpack as unpack_kernel
from server.residency.blob_composing import BlobAdder
from server.residency.blobs import BlobPacker
from server.residency.composing import ComposingSource, add_packed
from server.residency.pinned import PinnedMemory
from tests.support.serving import FolderSource
from tests.support.tiny import TinyAdapter, write_tiny_base

CPU = torch.device("cpu")
MADE = (
    TinyAdapter("a", rank=4, alpha=8),
    TinyAdapter("b", rank=3, alpha=2, targets=("q_proj", "v_proj", "down_proj"), seed=1),
    TinyAdapter("c", rank=5, targets=("v_proj", "o_proj"), seed=2, extra={"use_rslora": True}),
)
SCALES = {"a": 0.7, "b": -1.5, "c": 0.3}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return open_base(str(write_tiny_base(tmp_path_factory.mktemp("base") / "base")))


@pytest.fixture(scope="module")
def folders(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {made.name: made.write(base.folder, folder / made.name) for made in MADE}


def sum_of(scales: Mapping[str, float]) -> AdapterRef:
    return compose([WeightedAdapter(AdapterRef(n, n), scale) for n, scale in scales.items()])


def update(
    base: Base, folders: Mapping[str, Path], site: tuple[int, str], scales: Mapping[str, float]
) -> torch.Tensor:
    """[out, in] of a merged group: every adapter's update from its own files, scaled and added."""
    layer, group = site
    out_features, in_features = base.config.group_shape(group)
    total, row = torch.zeros(out_features, in_features), 0
    for projection in GROUPS[group]:
        width, _ = base.config.projection_shape(projection)
        for name, scale in scales.items():
            config = json.loads((folders[name] / "adapter_config.json").read_text())
            spec = AdapterSpec.from_config(config, base.record.config)
            stored = load_file(folders[name] / "adapter_model.safetensors")
            if (module := spec.modules.get((layer, projection))) is not None:
                a, b = (
                    stored[spec.tensor_name(layer, projection, part)].float()
                    for part in ("lora_A", "lora_B")
                )
                total[row : row + width] += scale * module.scaling * b @ a
        row += width
    return total


def sites(base: Base) -> Sequence[tuple[int, str]]:
    return [(layer, group) for layer in range(base.config.num_layers) for group in GROUPS]


def test_packed_factors_are_stacked(base: Base, folders: Mapping[str, Path]) -> None:
    source = ComposingSource(FolderSource(folders, base), add_packed, max_rank=12)
    packed = source.load(sum_of(SCALES))
    assert isinstance(packed, PackedAdapter)
    assert packed.rank == 12  # v_proj has all three
    for site in sites(base):
        factors = packed.sites[site]
        assert sum(factors.ranks) == factors.rank
        found = (factors.shrink.T @ factors.expand).T
        torch.testing.assert_close(found, update(base, folders, site, SCALES))


@pytest.mark.parametrize("unpack", [unpack_twin, unpack_kernel], ids=["twin", "kernel"])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16], ids=["one dtype", "several"])
def test_files_are_unpacked_into_one_slot(
    base: Base, folders: Mapping[str, Path], unpack: Unpack, stored: torch.dtype, tmp_path: Path
) -> None:
    changed = tmp_path / "b"
    changed.mkdir()
    config = (folders["b"] / "adapter_config.json").read_bytes()
    (changed / "adapter_config.json").write_bytes(config)
    tensors = load_file(folders["b"] / "adapter_model.safetensors")
    of_kind = {name: tensor.to(stored) for name, tensor in tensors.items()}
    save_file(of_kind, changed / "adapter_model.safetensors")
    folders = {**folders, "b": changed}
    memory = PinnedMemory(0, pin=False)
    files = FolderSource(folders, base).packed_by(BlobPacker(memory))
    source = ComposingSource(files, BlobAdder(memory, base.config), max_rank=12)
    blob = source.load(sum_of(SCALES))
    assert isinstance(blob, Blob)
    assert blob.rank == 12
    arena = Arena(
        base.config, num_slots=2, max_rank=12, dtype=torch.float32, device=CPU, unpack=unpack
    )
    arena.write(1, blob)
    for place, site in arena.sites().items():
        found = torch.zeros(base.config.group_shape(place[1]))
        row = 0
        for width, entry in zip(site.widths, site.table[1].tolist(), strict=True):
            rank, into = entry[RANK], found.shape[1]
            shrink = site.arena[entry[SHRINK] :][: rank * into].view(rank, into)
            expand = site.arena[entry[EXPAND] :][: rank * width].view(rank, width)
            found[row : row + width] = expand.T @ shrink
            row += width
        torch.testing.assert_close(found, update(base, folders, place, SCALES))


def test_the_ranks_of_all_have_to_fit(base: Base, folders: Mapping[str, Path]) -> None:
    source = ComposingSource(FolderSource(folders, base), add_packed, max_rank=11)
    with pytest.raises(CompositionTooLarge, match=r"rank 12 together.*--max-rank 12"):
        source.load(sum_of(SCALES))
    assert source.load(sum_of({"a": 1.0, "b": 1.0})).rank == 7


def test_what_is_in_host_memory_is_not_read_again(base: Base, folders: Mapping[str, Path]) -> None:
    read: list[str] = []

    class Counted(FolderSource):
        def load(self, adapter: AdapterRef) -> PackedAdapter:
            read.append(adapter.digest)
            loaded = super().load(adapter)
            assert isinstance(loaded, PackedAdapter)
            return loaded

    source = ComposingSource(Counted(folders, base), add_packed, max_rank=12)
    held = source.load(AdapterRef("a", "a"))
    source.load(sum_of({"a": 0.5, "b": 1.0}))
    assert read == ["a", "b"]
    del held
    source.load(sum_of({"a": 0.5, "b": 1.0}))
    assert read == ["a", "b", "a", "b"]


def test_equal_sums_are_one_adapter_and_others_are_not() -> None:
    one, other = sum_of({"a": 0.7, "b": 0.3}), sum_of({"b": 0.3, "a": 0.7})
    assert one == other
    assert one.label == "a*0.7+b*0.3"
    digests = {
        sum_of(scales).digest
        for scales in ({"a": 0.7, "b": 0.3}, {"a": 0.3, "b": 0.7}, {"a": 0.7}, {"a": 0.7, "c": 0.3})
    }
    assert len(digests) == 4
    assert all(map(is_composed, digests))
    assert members(one.label) == ["a", "b"]
    assert sum_of({"a": 1.0}) == AdapterRef("a", "a")
