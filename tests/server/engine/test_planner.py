"""What fits: arithmetic over shapes alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from server.engine.config import EngineSettings, ModelConfig
from server.engine.planner import GIB, kv_only, plan, weight_bytes
from server.errors import StartupError

MISTRAL = ModelConfig(
    vocab_size=32768,
    hidden_size=4096,
    intermediate_size=14336,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    max_context=32768,
    rms_norm_eps=1e-5,
    rope_theta=1e6,
    sliding_window=None,
    tied_embeddings=False,
)
SETTINGS = replace(EngineSettings.on("cuda"), weights="nf4")


def test_7b_weights_are_what_the_quantization_says() -> None:
    """3.490 GB of codes, 0.109 of 8-bit scales, 0.002 of theirs, 0.537 of embedding and head."""
    assert weight_bytes(MISTRAL, SETTINGS) == pytest.approx(4.138e9, rel=1e-3)
    dense = replace(SETTINGS, weights="dense")
    assert weight_bytes(MISTRAL, dense) == pytest.approx(14.5e9, rel=1e-2)


def test_slots_and_cache_of_a_7b() -> None:
    """An adapter of rank 16 takes 83.9 MB, a token of KV 131,072 bytes."""
    made = plan(MISTRAL, replace(SETTINGS, max_slots=64, max_rank=16), 80 * GIB)
    assert made.slots == pytest.approx(64 * 83.9e6, rel=1e-3)
    assert made.kv == pytest.approx(made.num_blocks * SETTINGS.block_size * 131_072, rel=1e-4)
    parts = made.weights + made.slots + made.workspace + made.graphs + made.kv
    assert parts <= 80 * GIB < parts + 2 * SETTINGS.block_size * 131_072


def test_more_slots_leave_less_cache() -> None:
    tokens = [
        plan(MISTRAL, replace(SETTINGS, max_slots=slots), 80 * GIB).kv_tokens for slots in (8, 64)
    ]
    assert tokens[0] > tokens[1]


def test_what_does_not_fit_is_said_with_its_parts() -> None:
    with pytest.raises(StartupError, match=r"nothing is left of 6\.00 GiB.*16 slots of rank 64"):
        plan(MISTRAL, SETTINGS, 6 * GIB)
    asked = replace(SETTINGS, kv_memory=70 * GIB)
    with pytest.raises(StartupError, match=r"70\.00 GiB of KV cache do not fit into 80\.00 GiB"):
        plan(MISTRAL, asked, 80 * GIB)
    assert plan(MISTRAL, replace(asked, kv_memory=GIB), 80 * GIB).kv_tokens < 8192


def test_on_cpu_only_the_cache_counts() -> None:
    settings = EngineSettings(kv_memory=2**20, dtype=torch.float32)
    assert kv_only(replace(MISTRAL, num_layers=1), settings).num_blocks == 2**20 // (16 * 8192)
    with pytest.raises(StartupError, match="hold fewer than 64 tokens"):
        kv_only(MISTRAL, settings)
