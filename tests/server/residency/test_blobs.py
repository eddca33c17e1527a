"""An adapter's file, read as it is and laid out by the unpacking kernel's definition."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.adapters import AdapterSpec
from server.bases import Base, open_base
from server.engine import arena as arena_module
from server.engine.arena import Arena, Blob, slot_elements
from server.engine.config import GROUPS
from server.engine.request import AdapterRef
from server.kernels.triton.site import EXPAND, RANK, SHRINK
from server.kernels.triton.twins.unpack import unpack
from server.residency import stored_file
from server.residency.blobs import BlobPacker
from server.residency.pinned import PinnedMemory
from tests.support.tiny import TinyAdapter, write_tiny_base

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return open_base(str(write_tiny_base(tmp_path_factory.mktemp("base") / "base")))


@pytest.fixture
def folder(base: Base, tmp_path: Path) -> Path:
    made = TinyAdapter("a", rank=6, alpha=9, targets=("q_proj", "v_proj", "down_proj"))
    return made.write(base.folder, tmp_path / "a")


def spec_of(base: Base, folder: Path) -> AdapterSpec:
    config = json.loads((folder / "adapter_config.json").read_text())
    return AdapterSpec.from_config(config, base.record.config)


def packed(base: Base, folder: Path) -> Blob:
    weights = folder / "adapter_model.safetensors"
    pack = BlobPacker(PinnedMemory(0, pin=False))
    return pack(AdapterRef("a", "a"), weights, spec_of(base, folder), base.config)


def rewrite(folder: Path, **dtypes: torch.dtype) -> None:
    """Store each factor in another dtype: A's as `a`, B's as `b`."""
    path = folder / "adapter_model.safetensors"
    kinds = {"lora_A": dtypes["a"], "lora_B": dtypes["b"]}
    tensors = {name: t.to(kinds[name.split(".")[-2]]) for name, t in load_file(path).items()}
    save_file(tensors, path)


@pytest.mark.parametrize(
    "dtypes",
    [
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float32),
    ],
)
def test_every_factor_arrives_where_the_table_says(
    base: Base,
    folder: Path,
    dtypes: tuple[torch.dtype, torch.dtype],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arena_module, "AT_ONCE", 1000)  # many pieces, the last one less
    rewrite(folder, a=dtypes[0], b=dtypes[1])
    stored = load_file(folder / "adapter_model.safetensors")
    arena = Arena(
        base.config, num_slots=3, max_rank=8, dtype=torch.float32, device=CPU, unpack=unpack
    )
    arena.write(2, packed(base, folder))
    assert arena.has_arrived(2)
    spec, sites = spec_of(base, folder), arena.sites()
    for (layer, group), site in sites.items():
        for part, projection in enumerate(GROUPS[group]):
            entry = site.table[2, part].tolist()
            module = spec.modules.get((layer, projection))
            assert entry[RANK] == (module.rank if module else 0)
            if module is None:
                continue
            a, b = (
                stored[spec.tensor_name(layer, projection, name)].float()
                for name in ("lora_A", "lora_B")
            )
            shrink = site.arena[entry[SHRINK] :][: a.numel()].view(a.shape)
            expand = site.arena[entry[EXPAND] :][: b.numel()].view(b.T.shape)
            torch.testing.assert_close(shrink, a)
            torch.testing.assert_close(expand, (b * module.scaling).T)


def test_an_adapter_takes_the_room_of_its_own_ranks(base: Base, folder: Path) -> None:
    blob = packed(base, folder)
    everything = slot_elements(base.config, 8)
    assert blob.num_elements < everything
    assert int(blob.table[..., EXPAND].max()) < blob.num_elements


def test_a_file_of_another_shape_is_refused(base: Base, folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "lora_A" in name)
    save_file({**tensors, name: tensors[name][:, :-1].clone()}, path)
    with pytest.raises(ValueError, match="has shape"):
        packed(base, folder)
    save_file({key: value for key, value in tensors.items() if key != name}, path)
    with pytest.raises(ValueError, match="lacks"):
        packed(base, folder)


def test_adapters_of_one_recipe_share_what_is_known_of_their_files(
    base: Base, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_file, "PIECE", 1000)  # several threads' work, the last one less
    others = TinyAdapter("b", rank=6, alpha=9, targets=("q_proj", "v_proj", "down_proj"), seed=1)
    scaled = TinyAdapter("c", rank=6, alpha=18, targets=("q_proj", "v_proj", "down_proj"), seed=1)
    pack = BlobPacker(PinnedMemory(0, pin=False))
    blobs = []
    for path in (folder, *(a.write(base.folder, tmp_path / a.name) for a in (others, scaled))):
        weights = path / "adapter_model.safetensors"
        blobs.append(pack(AdapterRef("x", "x"), weights, spec_of(base, path), base.config))
        assert weights.read_bytes().endswith(blobs[-1].data.numpy().tobytes())
    assert blobs[0].pieces is blobs[1].pieces
    assert blobs[1].pieces.scales.tolist() != blobs[2].pieces.scales.tolist()


def test_a_file_that_ends_too_soon_is_refused(base: Base, folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    whole = path.read_bytes()
    for kept in (len(whole) - 1, 100, 5):
        path.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match="weights file"):
            packed(base, folder)


def test_a_header_that_contradicts_itself_is_refused(base: Base, folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    first = next(name for name in header if name != "__metadata__")
    header[first]["data_offsets"][1] += 4
    changed = json.dumps(header).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + whole[8 + length :])
    with pytest.raises(ValueError, match="not its shape's"):
        packed(base, folder)
