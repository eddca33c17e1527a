from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from registry import bases
from registry.bases import NF4, UNQUANTIZED, BaseRecord, find_base, fingerprint, read_base
from registry.errors import BaseNotFound, InvalidBase
from registry.homes import base_cache
from registry.quantization import canonical_quantization
from tests.registry.making import TINY_CONFIG, write_safetensors


def test_a_plain_checkpoint_is_read(base_folder: Path) -> None:
    record = read_base(base_folder)
    assert record.name == record.source == "tiny-base"
    assert record.fingerprint == fingerprint(base_folder, NF4)
    assert record.fingerprint.startswith("sha256:")
    assert record.config == TINY_CONFIG
    assert record.quantization["bnb_4bit_quant_type"] == "nf4"


def test_shapes_left_out_of_the_config_follow_from_the_others(base_folder: Path) -> None:
    config = {**TINY_CONFIG, "head_dim": None, "hidden_size": 32}
    del config["num_key_value_heads"], config["tie_word_embeddings"]
    (base_folder / "config.json").write_text(json.dumps(config))
    shapes = read_base(base_folder).config
    assert shapes["head_dim"] == 8
    assert shapes["num_key_value_heads"] == 4
    assert shapes["tie_word_embeddings"] is False


def test_a_copy_has_the_same_fingerprint_whatever_it_is_called(
    base_folder: Path, tmp_path: Path
) -> None:
    first = read_base(base_folder)
    copy = shutil.copytree(base_folder, tmp_path / "elsewhere")
    (copy / "hatstand-base.json").unlink()
    assert read_base(copy).fingerprint == first.fingerprint


def test_other_weights_or_another_quantization_are_another_base(base_folder: Path) -> None:
    before = fingerprint(base_folder, NF4)
    assert fingerprint(base_folder, UNQUANTIZED) != before
    assert fingerprint(base_folder, {**NF4, "bnb_4bit_use_double_quant": False}) != before
    write_safetensors(base_folder / "model.safetensors", {"a": np.ones(3, np.float32)})
    assert fingerprint(base_folder, NF4) != before


def test_one_quantization_spelled_several_ways_is_the_same() -> None:
    saved = {
        **NF4,
        "bnb_4bit_compute_dtype": "torch.bfloat16",
        "_load_in_4bit": True,
        "load_in_8bit": False,
        "llm_int8_threshold": 6.0,
        "llm_int8_skip_modules": ["lm_head"],
        "bnb_4bit_quant_storage": "uint8",
        "quant_method": "bitsandbytes",
    }
    assert canonical_quantization(saved) == canonical_quantization(NF4)
    assert canonical_quantization({}) == UNQUANTIZED
    assert canonical_quantization({"load_in_8bit": True}) != UNQUANTIZED


def test_shards_are_hashed_once(base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_base(base_folder)

    def refuse(*_: object) -> str:
        raise AssertionError("hashed again")

    monkeypatch.setattr("registry.shards.digest_file", refuse)
    assert read_base(base_folder) == first


def test_a_changed_shard_is_hashed_again(base_folder: Path) -> None:
    first = read_base(base_folder)
    shard = base_folder / "model.safetensors"
    os.utime(shard, ns=(0, 0))
    assert read_base(base_folder) == first
    shard.write_bytes(shard.read_bytes() + b" ")
    assert read_base(base_folder).fingerprint != first.fingerprint


def test_a_folder_that_cannot_be_written_is_read_all_the_same(
    base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("registry.shards.BaseFile.write", refuse)
    assert read_base(base_folder).fingerprint
    assert not (base_folder / "hatstand-base.json").exists()


def test_a_quantized_copy_keeps_its_sources_fingerprint(base_folder: Path, tmp_path: Path) -> None:
    source = read_base(base_folder)
    ready = tmp_path / "ready"
    ready.mkdir()
    config = {**TINY_CONFIG, "quantization_config": {**NF4, "quant_method": "bitsandbytes"}}
    (ready / "config.json").write_text(json.dumps(config))
    write_safetensors(ready / "model.safetensors", {"a": np.ones(3, np.float32)})
    record = bases.write_base(
        ready,
        name="tiny",
        source="org/tiny",
        revision="abc",
        unquantized=bases.shard_digests(base_folder),
    )
    assert record.fingerprint == source.fingerprint
    assert (record.name, record.source, record.revision) == ("tiny", "org/tiny", "abc")
    assert read_base(ready) == record

    write_safetensors(ready / "model.safetensors", {"a": np.zeros(3, np.float32)})
    with pytest.raises(InvalidBase, match="changed after"):
        read_base(ready)


def test_sharded_checkpoints_count_the_files_of_their_index(base_folder: Path) -> None:
    index = {"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
    (base_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    write_safetensors(base_folder / "m-1.safetensors", {})
    with pytest.raises(InvalidBase, match="incomplete") as refusal:
        read_base(base_folder)
    assert refusal.value.param == "m-2.safetensors"
    write_safetensors(base_folder / "m-2.safetensors", {})
    assert list(bases.shard_digests(base_folder)) == ["m-1.safetensors", "m-2.safetensors"]


@pytest.mark.parametrize("mapping", [None, {}, {"a": "../x"}, {"a": 3}])
def test_a_broken_index_is_refused(base_folder: Path, mapping: object) -> None:
    text = json.dumps({"weight_map": mapping})
    (base_folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(InvalidBase, match="weight_map"):
        read_base(base_folder)


@pytest.mark.parametrize("broken", ["", "[]", "{", '{"hidden_size": 16}', '{"hidden_size": true}'])
def test_a_broken_config_is_refused(base_folder: Path, broken: str) -> None:
    (base_folder / "config.json").write_text(broken)
    with pytest.raises(InvalidBase) as refusal:
        read_base(base_folder)
    assert refusal.value.param == "config.json"


def test_a_folder_without_weights_is_refused(base_folder: Path) -> None:
    (base_folder / "model.safetensors").unlink()
    with pytest.raises(InvalidBase, match="only safetensors"):
        read_base(base_folder)
    with pytest.raises(InvalidBase, match="is this a checkpoint"):
        read_base(base_folder / "nowhere")


def test_bases_are_found_by_path_by_name_and_by_hub_id(base_folder: Path) -> None:
    assert find_base(base_folder) == base_folder
    for name in ("smollm2-135m", "mistralai--Mistral-7B"):
        shutil.copytree(base_folder, base_cache() / name)
    assert find_base("smollm2-135m") == base_cache() / "smollm2-135m"
    assert find_base("mistralai/Mistral-7B") == base_cache() / "mistralai--Mistral-7B"


def test_a_base_that_is_not_there_says_how_to_get_it(base_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BaseNotFound, match=r"hatstand base pull smollm2.*nothing is pulled"):
        find_base("smollm2")
    shutil.copytree(base_folder, base_cache() / "smollm2-135m")
    with pytest.raises(BaseNotFound, match="did you mean 'smollm2-135m'") as refusal:
        find_base("smollm2-135")
    assert refusal.value.status == 404
    with pytest.raises(BaseNotFound, match=r"no config\.json"):
        find_base(tmp_path)
    for odd in ("", "..", "\0", "a" * 5000):
        with pytest.raises(BaseNotFound):
            find_base(odd)


def test_a_record_needs_its_shapes() -> None:
    values = {"name": "a", "source": "a", "fingerprint": "sha256:0", "quantization": {}}
    with pytest.raises(ValidationError, match="hidden_size"):
        BaseRecord(**values, config={})
    with pytest.raises(ValidationError, match="num_hidden_layers"):
        BaseRecord(**values, config={**TINY_CONFIG, "num_hidden_layers": 10**9})
