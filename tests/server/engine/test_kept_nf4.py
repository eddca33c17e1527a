"""What was quantized once is read at the next start, and nothing else ever is."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from registry.homes import base_cache
from server.engine import kept_nf4
from server.engine.config import EngineSettings, ModelConfig
from server.engine.kept_nf4 import KeptNf4
from server.engine.quantizer import bitsandbytes
from server.engine.weights import ModelWeights, load_weights
from tests.support.serving import make_engine


@pytest.fixture
def quantized(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the tensors that were quantized; the tiny base's are enough to be kept."""
    sizes: list[int] = []
    quantize = bitsandbytes.quantize_4bit

    def counted(tensor: torch.Tensor, **how: Any) -> Any:
        sizes.append(tensor.numel())
        return quantize(tensor, **how)

    monkeypatch.setattr(bitsandbytes, "quantize_4bit", counted)
    monkeypatch.setattr(kept_nf4, "SMALLEST", 1)
    return sizes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def load(base: Path, folder: Path, fingerprint: str = "sha256:1") -> ModelWeights:
    settings = EngineSettings(dtype=torch.bfloat16, weights="nf4")
    kept = KeptNf4(folder, fingerprint, settings.dtype)
    return load_weights(base, ModelConfig.read(base), settings, kept=kept)


def layers(loaded: ModelWeights) -> list[torch.Tensor]:
    """Every linear, dequantized."""
    linears = [getattr(layer, name) for layer in loaded.layers for name in ("qkv", "o", "down")]
    return [linear.weight.dequantize(torch.bfloat16) for linear in linears]


def same(one: ModelWeights, other: ModelWeights) -> bool:
    return all(map(torch.equal, layers(one), layers(other)))


def copies(folder: Path) -> list[Path]:
    assert not list(folder.glob("*.partial"))
    return sorted(folder.glob("*.safetensors"))


def test_the_second_start_quantizes_nothing(
    tiny_base: Path, folder: Path, quantized: list[int]
) -> None:
    first = load(tiny_base, folder)
    count = len(quantized)
    assert count > 0
    assert same(load(tiny_base, folder), first)
    assert len(quantized) == count
    assert len(copies(folder)) == 1


@pytest.mark.parametrize("damage", ["changed", "cut", "emptied"])
def test_a_damaged_copy_is_said_and_made_anew(
    tiny_base: Path,
    folder: Path,
    quantized: list[int],
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    first = load(tiny_base, folder)
    (copy,) = copies(folder)
    content = copy.read_bytes()
    changed = content[:-1] + bytes([content[-1] ^ 1])
    copy.write_bytes({"changed": changed, "cut": content[:-1], "emptied": b""}[damage])
    count = len(quantized)
    with caplog.at_level(logging.WARNING):
        assert same(load(tiny_base, folder), first)
    assert "is damaged: the base is quantized again" in caplog.text
    assert len(quantized) == 2 * count
    assert copies(folder) == [copy]
    assert copy.read_bytes() == content


def test_another_base_has_a_copy_of_its_own(
    tiny_base: Path, folder: Path, quantized: list[int]
) -> None:
    load(tiny_base, folder)
    count = len(quantized)
    load(tiny_base, folder, "sha256:2")
    assert len(quantized) == 2 * count
    assert len(copies(folder)) == 2


@pytest.mark.parametrize(("limit", "value"), [("SMALLEST", 1 << 30), ("LARGEST", 1)])
@pytest.mark.usefixtures("quantized")
def test_what_is_small_or_large_is_not_kept(
    tiny_base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(kept_nf4, limit, value)
    load(tiny_base, folder)
    assert copies(folder) == []


@pytest.mark.usefixtures("quantized")
def test_the_oldest_copies_go(
    tiny_base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tiny_base, folder)
    (oldest,) = copies(folder)
    os.utime(oldest, (1, 1))
    monkeypatch.setattr(kept_nf4, "MOST", 2 * oldest.stat().st_size)
    for number in (2, 3):
        load(tiny_base, folder, f"sha256:{number}")
    assert len(copies(folder)) == 2
    assert oldest not in copies(folder)


@pytest.mark.parametrize("error", [OSError, SafetensorError])
@pytest.mark.usefixtures("quantized")
def test_a_full_disk_is_no_reason_not_to_start(
    tiny_base: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
) -> None:
    def no_space(_: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise error("No space left on device")

    monkeypatch.setattr(kept_nf4, "save_file", no_space)
    with caplog.at_level(logging.INFO):
        load(tiny_base, folder)
    assert "No space left on device" in caplog.text
    assert list(folder.iterdir()) == []


def test_an_engine_keeps_them_beside_the_bases(
    tiny_base: Path, quantized: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HATSTAND_HOME", str(tmp_path / "home"))
    make_engine(tiny_base, weights="nf4")
    count = len(quantized)
    make_engine(tiny_base, weights="nf4")
    make_engine(tiny_base, weights="dense")
    assert len(quantized) == count > 0
    assert len(copies(base_cache() / ".nf4")) == 1
