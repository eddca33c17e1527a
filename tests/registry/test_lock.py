from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.bases import read_base
from registry.errors import InvalidLock
from registry.lock import GoldenPrompt, Lock


def make(base_folder: Path, **more: Any) -> Lock:
    return Lock(
        base=read_base(base_folder),
        adapter_dtype="float32",
        rank=4,
        target_modules=("q_proj",),
        **more,
    )


def test_a_lock_survives_its_file(base_folder: Path, tmp_path: Path) -> None:
    golden = GoldenPrompt(messages=({"role": "user", "content": "é"},), token_ids=(1, 2))
    lock = make(base_folder, golden=(golden,), metrics={"loss": 0.25}, data={"a.jsonl": "sha256:0"})
    lock.write(tmp_path)
    assert Lock.read(tmp_path) == lock
    assert Lock.from_bytes(lock.to_bytes()) == lock
    assert Lock.read(base_folder) is None


def test_equal_locks_have_equal_bytes(base_folder: Path) -> None:
    first = make(base_folder, recipe={"a": 1, "b": {"c": 2, "d": 3}})
    second = make(base_folder, recipe={"b": {"d": 3, "c": 2}, "a": 1})
    assert first.to_bytes() == second.to_bytes()
    assert json.loads(first.to_bytes())["format"] == 1


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"rnak": 3}, "rnak"),
        ({"rank": 0}, "rank"),
        ({"base": None}, "base"),
        ({"format": 2}, "format"),
        ({"golden": [{"messages": [], "ids": []}]}, "golden.0.token_ids"),
    ],
)
def test_a_wrong_key_is_named(base_folder: Path, change: dict[str, Any], param: str) -> None:
    values = json.loads(make(base_folder).to_bytes())
    with pytest.raises(InvalidLock) as refusal:
        Lock.from_bytes(json.dumps({**values, **change}).encode())
    assert refusal.value.param == param


def test_a_misspelled_key_names_the_nearest(base_folder: Path) -> None:
    values = json.loads(make(base_folder).to_bytes()) | {"metricss": {}}
    with pytest.raises(InvalidLock, match="did you mean 'metrics'"):
        Lock.from_bytes(json.dumps(values).encode())


def test_what_is_no_number_is_refused(base_folder: Path) -> None:
    with pytest.raises(InvalidLock, match="not JSON"):
        Lock.from_bytes(b"\xff")
    with pytest.raises(InvalidLock, match="finite"):
        Lock.from_bytes(make(base_folder, metrics={"loss": 1.5}).to_bytes().replace(b"1.5", b"NaN"))
    with pytest.raises(InvalidLock):
        make(base_folder, recipe={"lr": float("nan")}).to_bytes()
