from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import TensorRefused
from registry.safetensors_file import SafetensorsFile
from tests.registry.making import write_safetensors


def write_header(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype: str = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_what_safetensors_writes_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    tensors = {
        "a": torch.randn(3, 4),
        "b": torch.randn(5).to(torch.bfloat16),
        "c": torch.randn(2, 2, 2).to(torch.float16),
        "empty": torch.zeros(0, 3),
    }
    path = tmp_path / "t.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    file = SafetensorsFile.open(path)
    assert file.metadata == {"format": "pt"}
    assert set(file.tensors) == set(tensors)
    for name, tensor in tensors.items():
        assert file.tensors[name].shape == tuple(tensor.shape)
        np.testing.assert_array_equal(file.read(name), tensor.float().numpy())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not even a header length"),
        (b"\x00" * 7, "not even a header length"),
        (struct.pack("<Q", 1 << 62), "claims"),
        (struct.pack("<Q", 100) + b"{}", "truncated"),
        (struct.pack("<Q", 0), "not a JSON object"),
        (struct.pack("<Q", 2) + b"[]", "not a JSON object"),
        (struct.pack("<Q", 2) + b"{{", "not JSON"),
        (struct.pack("<Q", 3) + b"{\xff}", "not JSON"),
        (struct.pack("<Q", 2) + b"{}x", "1 bytes follow"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(content)
    with pytest.raises(TensorRefused, match=reason) as refusal:
        SafetensorsFile.open(path)
    assert refusal.value.param == "adapter_model.safetensors"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (3, "must hold dtype"),
        ({**entry(), "more": 1}, "must hold dtype"),
        (entry(dtype="F31"), "unknown dtype"),
        (entry(shape=[True]), "list of at most"),
        (entry(shape=[-1]), "list of at most"),
        (entry(shape=[1] * 9), "list of at most"),
        (entry(shape=1), "list of at most"),
        (entry(offsets=[0]), "start, end"),
        (entry(offsets=[4, 0]), "start, end"),
        (entry(offsets=[0, 1 << 60]), "start, end"),
        (entry(offsets=[0, 8]), "needs 4 bytes"),
        (entry(shape=[1 << 40, 1 << 40]), "needs"),
        (entry(offsets=[4, 8]), "gap"),
    ],
)
def test_a_broken_entry_names_its_tensor(tmp_path: Path, value: object, reason: str) -> None:
    path = write_header(tmp_path / "x", {"w": value}, b"\0" * 4)
    with pytest.raises(TensorRefused, match=reason) as refusal:
        SafetensorsFile.open(path)
    assert refusal.value.param == "w"


def test_tensors_may_not_overlap_or_run_out_of_the_file(tmp_path: Path) -> None:
    two = {"a": entry(), "b": entry()}
    with pytest.raises(TensorRefused, match="overlaps"):
        SafetensorsFile.open(write_header(tmp_path / "x", two, b"\0" * 4))
    with pytest.raises(TensorRefused, match="truncated"):
        SafetensorsFile.open(write_header(tmp_path / "x", {"a": entry()}, b"\0" * 3))


def test_names_are_unique_and_printable(tmp_path: Path) -> None:
    value = json.dumps(entry())
    twice = f'{{"a": {value}, "a": {value}}}'.encode()
    with pytest.raises(TensorRefused, match="twice"):
        SafetensorsFile.open(write_header(tmp_path / "x", twice, b"\0" * 4))
    with pytest.raises(TensorRefused, match="printable"):
        SafetensorsFile.open(write_header(tmp_path / "x", {"\ud800": entry()}, b"\0" * 4))


def test_deep_nesting_and_huge_numbers_are_refused(tmp_path: Path) -> None:
    for header in (b'{"a":' * 100_000, b'{"a":' + b"9" * 10_000 + b"}"):
        with pytest.raises(TensorRefused):
            SafetensorsFile.open(write_header(tmp_path / "x", header))


def test_reading_takes_floats_only_and_notices_a_shrunken_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_safetensors(path, {"i": np.ones(2, np.int32), "f": np.ones(2, np.float32)})
    file = SafetensorsFile.open(path)
    with pytest.raises(TensorRefused, match="I32"):
        file.read("i")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TensorRefused, match="truncated while"):
        file.read("f")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "adapter_model.safetensors"
    arrays = {"a.weight": np.ones((2, 3), np.float32), "b.weight": np.ones(4, np.float16)}
    write_safetensors(path, arrays)
    return path


@given(
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=4)), max_size=4),
    cut=st.integers(0, 10_000),
)
def test_mutated_bytes_are_read_or_refused_and_nothing_else(
    sound: Path, edits: list[tuple[int, bytes]], cut: int
) -> None:
    content = bytearray(sound.read_bytes())
    for position, replacement in edits:
        place = position % len(content)
        content[place : place + len(replacement)] = replacement
    if cut < len(content):
        del content[cut:]
    path = sound.with_name("mutated")
    path.write_bytes(content)
    try:
        file = SafetensorsFile.open(path)
        for name in file.tensors:
            file.read(name)
    except TensorRefused:
        return
