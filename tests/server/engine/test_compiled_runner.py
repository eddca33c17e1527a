"""The compiled runner computes what the plain-torch one does, each row bitwise its own."""

from __future__ import annotations

import random
from collections.abc import Sequence as Rows
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.engine.batch import Batch, Chunk
from server.engine.compiled_runner import CompiledRunner
from server.engine.compiled_slots import CompiledSlots
from server.engine.composition import compose
from server.engine.config import EngineSettings, ModelConfig
from server.engine.detokenizer import Detokenizer
from server.engine.kernel_choice import can_run
from server.engine.layout import Layout
from server.engine.request import (
    AdapterRef,
    GenerationRequest,
    SamplingParams,
    WeightedAdapter,
)
from server.engine.row_layout import RowLayout
from server.engine.runner import MistralRunner
from server.engine.sequence import Sequence
from server.engine.slots import SlotPool
from server.engine.weights import load_weights
from server.kernels.cpu.support import is_supported
from server.residency.composing import ComposingSource, add_packed
from tests.support.serving import FolderSource, open_base
from tests.support.tiny import TinyAdapter, write_tiny_base

needs_kernels = pytest.mark.skipif(not is_supported(), reason="needs AVX-512 with bf16")
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {"head_dim": 32},
    "sliding window": {"head_dim": 32, "sliding_window": 20},
    "one KV head": {"head_dim": 64, "num_key_value_heads": 1},
    "large heads": {"head_dim": 128, "num_key_value_heads": 4},
    "tied embeddings": {"head_dim": 32, "tie_word_embeddings": True},
    "odd vocabulary": {"head_dim": 32, "vocab_size": 333},
}
ADAPTERS = (
    TinyAdapter("a", rank=4),
    TinyAdapter("b", rank=3, targets=("q_proj", "v_proj"), seed=1),
    TinyAdapter("c", rank=16, seed=2),
    TinyAdapter("d", rank=8, targets=("k_proj", "down_proj"), seed=3),
)
BLOCKS, BLOCK_SIZE = 200, 16


class Pair:
    """Both runners over one base, the adapters in slots 0 to 3, and some of their sum in slot 4."""

    def __init__(self, folder: Path, *, weights: str, num_threads: int, **shape: Any) -> None:
        base = write_tiny_base(folder / "base", **shape)
        self.config = config = ModelConfig.read(base)
        chosen = EngineSettings(weights=weights, max_rank=16)
        assert can_run(config, chosen)
        self.slots = SlotPool(
            config, num_slots=5, max_rank=16, dtype=torch.bfloat16, device=torch.device("cpu")
        )
        compiled_slots = CompiledSlots(config, num_slots=5, max_rank=16)
        opened = open_base(str(base))
        folders = {made.name: made.write(base, folder / made.name) for made in ADAPTERS}
        source = ComposingSource(FolderSource(folders, opened), add_packed, max_rank=16)
        refs = [AdapterRef(name, name) for name in folders]
        a, b, _, d = refs
        refs.append(compose([WeightedAdapter(r, s) for r, s in ((a, 0.7), (b, -1.5), (d, 2.0))]))
        for slot, packed in enumerate(map(source.load, refs)):
            self.slots.write(slot, packed)
            compiled_slots.write(slot, packed)
        loaded = load_weights(base, config, chosen)
        sizes = {"num_blocks": BLOCKS, "block_size": BLOCK_SIZE, "max_context": 512}
        self.plain = MistralRunner(config, loaded, **sizes)
        self.compiled = CompiledRunner(
            config, loaded, compiled_slots, **sizes, num_threads=num_threads
        )

    def compute(self, batch: Batch) -> torch.Tensor:
        return self.compiled.forward(RowLayout(BLOCK_SIZE).build(batch))

    def compute_plainly(self, batch: Batch) -> torch.Tensor:
        cpu = torch.device("cpu")
        layout = Layout(self.config, BLOCK_SIZE, torch.bfloat16, cpu, self.slots)
        return self.plain.forward(layout.build(batch))


def sequence(number: int, slot: int | None, blocks: Rows[int]) -> Sequence:
    source = random.Random(number)
    prompt = tuple(source.randrange(256) for _ in range(source.randrange(2, 70)))
    made = Sequence(GenerationRequest("r", prompt, SamplingParams()), Detokenizer(lambda _: ""))
    made.slot, made.blocks = slot, list(blocks)
    return made


def own_blocks(index: int) -> range:
    return range(1 + index * 8, 9 + index * 8)


def advance(sequences: Rows[Sequence], chunk: int) -> Batch:
    """The next step of all sequences: a token of each that decodes, a chunk of the others."""
    decoding = [Chunk.of(s, 1) for s in sequences if s.is_decoding]
    prefilling = [Chunk.of(s, chunk) for s in sequences if not s.is_decoding]
    return Batch.of(decoding, prefilling)


def settle(batch: Batch) -> None:
    for chunk in batch.chunks:
        chunk.sequence.num_computed = chunk.end
        if chunk.samples:
            chunk.sequence.token_ids.append(chunk.end % 256)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    return {
        f"{name}, {weights}": Pair(
            tmp_path_factory.mktemp("pair"), weights=weights, num_threads=threads, **shape
        )
        for (name, shape), threads in zip(SHAPES.items(), (1, 2, 1, 2, 3, 1), strict=True)
        for weights in (("nf4", "nf4-shadow") if name == "plain" else ("nf4",))
    }


@needs_kernels
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    which=st.integers(0, len(SHAPES)),
    numbers=st.lists(
        st.tuples(st.integers(0, 30), st.none() | st.integers(0, 4)), min_size=1, max_size=9
    ),
    chunk=st.sampled_from([1, 7, 30, 256]),
)
def test_logits_are_those_of_the_plain_runner(
    which: int, numbers: list[tuple[int, int | None]], chunk: int, pairs: dict[str, Pair]
) -> None:
    pair = list(pairs.values())[which]
    sequences = [sequence(n, slot, own_blocks(i)) for i, (n, slot) in enumerate(numbers)]
    for _ in range(4):
        batch = advance(sequences, chunk)
        found, expected = pair.compute(batch).float(), pair.compute_plainly(batch).float()
        assert found.shape == expected.shape
        if len(found):
            spread = expected.std(-1, keepdim=True)
            assert ((found - expected).abs() / spread).mean() < 0.03
        settle(batch)


@needs_kernels
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    which=st.integers(0, len(SHAPES)),
    slot=st.none() | st.integers(0, 4),
    company=st.lists(st.tuples(st.integers(1, 30), st.none() | st.integers(0, 4)), max_size=9),
    chunks=st.tuples(*[st.sampled_from([1, 7, 30, 256])] * 2),
    delay=st.integers(0, 3),
)
def test_a_sequences_logits_are_bitwise_its_own(
    which: int,
    slot: int | None,
    company: list[tuple[int, int | None]],
    chunks: tuple[int, int],
    delay: int,
    pairs: dict[str, Pair],
) -> None:
    """However its prompt is cut, whoever is computed beside it, and on other blocks."""
    pair = list(pairs.values())[which]

    def logits(chunk: int, others: list[Sequence], blocks: range) -> list[torch.Tensor]:
        own, found = sequence(0, slot, blocks), []
        for step in range(200):
            running = [*others, own] if step >= delay else others
            batch = advance(running, chunk)
            if batch:
                rows = pair.compute(batch)
                if own in batch.sampling:
                    found.append(rows[batch.sampling.index(own)])
                settle(batch)
            if len(found) == 4:
                return found
        raise AssertionError("the sequence never sampled")

    others = [sequence(n, s, own_blocks(i + 1)) for i, (n, s) in enumerate(company)]
    alone = logits(chunks[0], [], own_blocks(0))
    accompanied = logits(chunks[1], others, own_blocks(12))
    assert all(torch.equal(one, other) for one, other in zip(alone, accompanied, strict=True))


@needs_kernels
def test_a_step_may_have_nothing_to_sample(pairs: dict[str, Pair]) -> None:
    pair = next(iter(pairs.values()))
    batch = advance([sequence(3, 0, own_blocks(0))], 1)
    assert pair.compute(batch).shape == (0, pair.config.vocab_size)


@needs_kernels
def test_numbers_out_of_range_stay_where_they_are(pairs: dict[str, Pair]) -> None:
    """Also in blocks that change hands."""
    pair = next(iter(pairs.values()))
    expected = pair.compute(advance([sequence(5, 0, own_blocks(3))], 256))
    pair.compiled.cache[:] = torch.nan
    found = pair.compute(advance([sequence(5, 0, own_blocks(3))], 256))
    assert torch.equal(found, expected)
    pair.compiled.cache[:] = 0


def test_what_the_kernels_cannot_take_is_left_to_plain_torch() -> None:
    config = ModelConfig.from_dict(
        {
            "model_type": "mistral",
            "vocab_size": 32,
            "hidden_size": 128,
            "intermediate_size": 128,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 64,
            "rms_norm_eps": 1e-6,
        }
    )
    chosen = EngineSettings()
    assert can_run(config, chosen) == is_supported()
    assert not can_run(config, replace(chosen, dtype=torch.float32))
    assert not can_run(config, replace(chosen, device="cuda"))
    assert not can_run(config, replace(chosen, block_size=8))
    assert not can_run(replace(config, head_dim=16), chosen)
    assert not can_run(replace(config, intermediate_size=96), chosen)
