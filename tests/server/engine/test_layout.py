"""Each row of a step knows its token, its position, its place in the cache, and what it may see."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from server.engine.batch import Batch, Chunk
from server.engine.config import ModelConfig
from server.engine.detokenizer import Detokenizer
from server.engine.kv_cache import NULL_BLOCK
from server.engine.layout import Layout, StepInput
from server.engine.request import GenerationRequest, SamplingParams
from server.engine.sequence import Sequence
from server.engine.slots import SlotPool

SIZE = 4


def config(sliding_window: int | None = None) -> ModelConfig:
    return ModelConfig.from_dict(
        {
            "model_type": "mistral",
            "vocab_size": 32,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128,
            "rms_norm_eps": 1e-6,
            "sliding_window": sliding_window,
        }
    )


def layout(shape: ModelConfig) -> Layout:
    cpu = torch.device("cpu")
    slots = SlotPool(shape, num_slots=3, max_rank=2, dtype=torch.float32, device=cpu)
    return Layout(shape, SIZE, torch.float32, cpu, slots)


class Chunks:
    """Chunks of sequences that hold blocks of their own, in no particular order."""

    def __init__(self) -> None:
        self._next_block = 100

    def make(self, computed: int, count: int, *, left: int = 0, slot: int | None = None) -> Chunk:
        """The chunk of `count` tokens after `computed` ones, with `left` uncomputed after it."""
        total = computed + count + left
        request = GenerationRequest("request", tuple(range(total)), SamplingParams())
        sequence = Sequence(request, Detokenizer(lambda _: ""), num_computed=computed, slot=slot)
        num_blocks = -(-total // SIZE)
        sequence.blocks = [self._next_block - index for index in range(num_blocks)]
        self._next_block -= num_blocks
        return Chunk.of(sequence, count)


def visible(step: StepInput, query_heads: int) -> dict[int, list[set[int]]]:
    """By row: the cache slots that each query head may look at."""
    seen: dict[int, list[set[int]]] = {}
    count = len(step.token_ids)
    for group in step.attention:
        rows = torch.arange(count)[group.rows].view(-1, group.num_queries)
        slots = group.block_table[:, :, None] * SIZE + torch.arange(SIZE)
        mask = group.mask.expand(len(rows), 1, -1, -1)
        for index, sequence_rows in enumerate(rows.tolist()):
            table = slots[index].flatten()
            heads = mask[index, 0].view(query_heads, group.num_queries, -1)
            for query, row in enumerate(sequence_rows):
                assert row not in seen
                seen[row] = [set(table[head[query] == 0].tolist()) for head in heads]
    assert sorted(seen) == list(range(count))
    return seen


@given(
    decoding=st.lists(st.integers(1, 40), max_size=5),
    prompts=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 12)), max_size=3),
    window=st.sampled_from([None, 1, 5, 16]),
)
def test_every_row_sees_its_own_past_and_nothing_else(
    decoding: list[int], prompts: list[tuple[int, int]], window: int | None
) -> None:
    chunks = Chunks()
    batch = Batch.of(
        [chunks.make(computed, 1) for computed in decoding],
        [chunks.make(computed, count, left=3) for computed, count in prompts],
    )
    if not batch:
        return
    shape = config(window)
    step = layout(shape).build(batch)
    seen = visible(step, shape.group_size)
    row, begun = 0, []
    for chunk in batch.chunks:
        places = [
            block * SIZE + offset for block in chunk.sequence.blocks for offset in range(SIZE)
        ]
        for position in range(chunk.start, chunk.end):
            first = 0 if window is None else max(0, position - window + 1)
            assert seen[row] == [set(places[first : position + 1])] * shape.group_size
            assert step.positions[row] == position
            assert step.token_ids[row] == chunk.sequence.token_ids[position]
            assert step.kv_slots[row] == places[position]
            begun += [chunk.sequence.blocks[position // SIZE]] if position % SIZE == 0 else []
            row += 1
    assert step.begun_blocks.tolist() == begun


def test_only_the_last_row_of_a_finished_prompt_samples() -> None:
    chunks = Chunks()
    batch = Batch.of(
        [chunks.make(5, 1), chunks.make(9, 1)],
        [chunks.make(0, 4, left=2), chunks.make(3, 6)],
    )
    step = layout(config()).build(batch)
    assert step.sample_rows.tolist() == [0, 1, 11]
    assert batch.sampling == [
        batch.chunks[0].sequence,
        batch.chunks[1].sequence,
        batch.chunks[3].sequence,
    ]


def test_sequences_of_similar_length_attend_together() -> None:
    chunks = Chunks()
    lengths = [1, 2, 30, 31, 90]
    step = layout(config()).build(Batch.of([chunks.make(n, 1) for n in lengths], []))
    assert [len(group.block_table) for group in step.attention] == [2, 2, 1]
    for group in step.attention:
        used = (group.block_table != NULL_BLOCK).sum(-1)
        assert int(used.min()) * 2 >= group.block_table.shape[1]


@pytest.mark.parametrize("num_decoding", [0, 3])
def test_rows_are_sorted_so_that_an_adapters_rows_stand_together(num_decoding: int) -> None:
    chunks = Chunks()
    slots = [2, None, 0, 2, 0]
    made = [chunks.make(3, 1 + (n >= num_decoding), slot=slot) for n, slot in enumerate(slots)]
    batch = Batch.of(made[:num_decoding], made[num_decoding:])
    for part in (batch.decoding, batch.prefilling):
        order = [-1 if chunk.sequence.slot is None else chunk.sequence.slot for chunk in part]
        assert order == sorted(order)
