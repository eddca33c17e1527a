"""LoRA over mixed rows: each row gets its own adapter's part, exactly, and no other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from server.engine.config import ModelConfig
from server.engine.slots import MAX_STACKED, Factors, PackedAdapter, SlotPool
from server.kernels.lora import LoraSegment, LoraStack, add_segment, add_stack

IN, OUT, RANKS = 64, 128, (1, 2, 3, 8, 16, 24, 40, 64)
DTYPES = {torch.float32: 1e-5, torch.bfloat16: 3e-2}  # and how far a sum may be off, relatively
both_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "bf16"])
rows_of_slots = st.lists(st.none() | st.integers(0, len(RANKS) - 1), min_size=1, max_size=24)


def random(*shape: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def adapters(dtype: torch.dtype) -> list[Factors]:
    return [
        Factors(
            random(rank, IN, dtype=dtype, seed=index) / 8,
            random(rank, OUT, dtype=dtype, seed=index + 50) / 8,
            (rank,),
        )
        for index, rank in enumerate(RANKS)
    ]


def stack_of(factors: list[Factors], row_slots: list[int | None]) -> LoraStack:
    owners = torch.tensor([slot for slot, f in enumerate(factors) for _ in range(f.rank)])
    wanted = torch.tensor([-1 if slot is None else slot for slot in row_slots])
    shrink = torch.cat([f.shrink for f in factors])
    foreign = wanted[:, None] != owners[None, :]
    return LoraStack(shrink, torch.cat([f.expand for f in factors]), foreign)


def by_segments(
    y: torch.Tensor, x: torch.Tensor, factors: list[Factors], row_slots: list[int | None]
) -> None:
    for row, slot in enumerate(row_slots):
        if slot is not None:
            own = factors[slot]
            add_segment(y, x, LoraSegment(row, row + 1, own.shrink, own.expand))


def densely(
    y: torch.Tensor, x: torch.Tensor, factors: list[Factors], row_slots: list[int | None]
) -> torch.Tensor:
    """The definition, in fp64."""
    expected = y.double()
    for row, slot in enumerate(row_slots):
        if slot is not None:
            own = factors[slot]
            expected[row] += x[row].double() @ own.shrink.double().T @ own.expand.double()
    return expected


@both_dtypes
@given(row_slots=rows_of_slots, seed=st.integers(0, 99))
def test_stack_and_segments_add_what_the_definition_says(
    row_slots: list[int | None], seed: int, dtype: torch.dtype
) -> None:
    factors, count = adapters(dtype), len(row_slots)
    x, y = random(count, IN, dtype=dtype, seed=seed), random(count, OUT, dtype=dtype, seed=seed + 1)
    expected = densely(y, x, factors, row_slots)
    stacked, segmented = y.clone(), y.clone()
    add_stack(stacked, x, stack_of(factors, row_slots))
    by_segments(segmented, x, factors, row_slots)
    tolerance = DTYPES[dtype]
    for result in (stacked, segmented):
        torch.testing.assert_close(result.double(), expected, rtol=tolerance, atol=4 * tolerance)
    bare = [row for row, slot in enumerate(row_slots) if slot is None]
    assert torch.equal(stacked[bare], y[bare])
    assert torch.equal(segmented[bare], y[bare])


@both_dtypes
def test_a_stack_leaves_the_rows_after_its_own_alone(dtype: torch.dtype) -> None:
    x, y = random(20, IN, dtype=dtype, seed=1), random(20, OUT, dtype=dtype, seed=2)
    result = y.clone()
    add_stack(result, x, stack_of(adapters(dtype), [0, 1, 2]))
    assert torch.equal(result[3:], y[3:])
    assert not torch.equal(result[:3], y[:3])


@both_dtypes
@given(
    slot=st.integers(1, len(RANKS) - 1),  # fp32 and rank 1 meet in a product of another kind
    before=st.integers(0, 12),
    after=st.integers(0, 40),
    seed=st.integers(0, 99),
)
def test_a_row_of_a_segment_is_bitwise_its_own(
    slot: int, before: int, after: int, seed: int, dtype: torch.dtype
) -> None:
    own, count = adapters(dtype)[slot], before + 1 + after
    x, y = random(count, IN, dtype=dtype, seed=seed), random(count, OUT, dtype=dtype, seed=seed + 1)
    alone, among = y[before : before + 1].clone(), y.clone()
    add_segment(alone, x[before : before + 1], LoraSegment(0, 1, own.shrink, own.expand))
    add_segment(among, x, LoraSegment(0, count, own.shrink, own.expand))
    assert torch.equal(among[before], alone[0])


@both_dtypes
@given(row_slots=rows_of_slots, seed=st.integers(0, 99), data=st.data())
def test_a_row_of_a_stack_is_bitwise_its_own_whatever_the_others_are(
    row_slots: list[int | None], seed: int, data: st.DataObject, dtype: torch.dtype
) -> None:
    factors, count = adapters(dtype), len(row_slots)
    row = data.draw(st.integers(0, count - 1))
    x, y = random(count, IN, dtype=dtype, seed=seed), random(count, OUT, dtype=dtype, seed=seed + 1)
    others = random(count, IN, dtype=dtype, seed=seed + 2)
    others[row] = x[row]
    one, other = y.clone(), y.clone()
    add_stack(one, x, stack_of(factors, row_slots))
    changed = data.draw(st.lists(st.none() | st.integers(0, 7), min_size=count, max_size=count))
    changed[row] = row_slots[row]
    add_stack(other, others, stack_of(factors, changed))
    assert torch.equal(one[row], other[row])


@both_dtypes
def test_numbers_of_one_adapter_never_reach_anothers_rows(dtype: torch.dtype) -> None:
    factors = adapters(dtype)
    factors[3] = replace(factors[3], shrink=factors[3].shrink * torch.inf)
    x, y = random(3, IN, dtype=dtype, seed=1), random(3, OUT, dtype=dtype, seed=2)
    add_stack(y, x, stack_of(factors, [2, 3, None]))
    assert y[0].isfinite().all()
    assert y[2].isfinite().all()
    assert not y[1].isfinite().any()


CONFIG = ModelConfig.from_dict(
    {
        "model_type": "mistral",
        "vocab_size": 32,
        "hidden_size": OUT,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": IN // 2,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6,
    }
)
SITE = (0, "o")


def pool_of(factors: list[Factors], dtype: torch.dtype = torch.float32) -> SlotPool:
    pool = SlotPool(
        CONFIG, num_slots=len(factors), max_rank=64, dtype=dtype, device=torch.device("cpu")
    )
    for slot, own in enumerate(factors):
        pool.write(slot, PackedAdapter(str(slot), str(slot), own.rank, {SITE: own}))
    return pool


@given(decoding=rows_of_slots, prefilling=rows_of_slots)
def test_a_plan_reaches_every_row(decoding: list[int | None], prefilling: list[int | None]) -> None:
    factors, row_slots = adapters(torch.float32), [*decoding, *prefilling]
    x = random(len(row_slots), IN, dtype=torch.float32, seed=1)
    y = random(len(row_slots), OUT, dtype=torch.float32, seed=2)
    expected = densely(y, x, factors, row_slots)
    pool_of(factors).plan(row_slots, len(decoding)).add(SITE, y, x)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_row_is_bitwise_the_same_alone_and_stacked() -> None:
    """With SmolLM2's long inputs and odd ranks, where padding left out shows once in a hundred."""
    down, into, out = (0, "down"), 1536, 576
    config = replace(CONFIG, hidden_size=out, intermediate_size=into)
    pool = SlotPool(
        config, num_slots=4, max_rank=40, dtype=torch.bfloat16, device=torch.device("cpu")
    )
    for slot, rank in enumerate((3, 5, 7, 40)):
        own = Factors(
            random(rank, into, dtype=torch.bfloat16, seed=slot) / 8,
            random(rank, out, dtype=torch.bfloat16, seed=slot + 50) / 8,
            (rank,),
        )
        pool.write(slot, PackedAdapter(str(slot), str(slot), rank, {down: own}))
    row_slots = [0, 1, 2, 3]
    for seed in range(150):
        x = random(4, into, dtype=torch.bfloat16, seed=seed)
        y = random(4, out, dtype=torch.bfloat16, seed=seed + 1)
        among = y.clone()
        pool.plan(row_slots, 4).add(down, among, x)
        for row in row_slots:
            alone = y[row : row + 1].clone()
            pool.plan([row], 1).add(down, alone, x[row : row + 1])
            assert torch.equal(among[row], alone[0])


def test_a_plan_reaches_more_adapters_than_are_stacked() -> None:
    factors = [adapters(torch.float32)[index % 8] for index in range(MAX_STACKED + 3)]
    row_slots: list[int | None] = list(range(len(factors)))
    x = random(len(factors), IN, dtype=torch.float32, seed=1)
    y = random(len(factors), OUT, dtype=torch.float32, seed=2)
    expected = densely(y, x, factors, row_slots)
    pool_of(factors).plan(row_slots, len(row_slots)).add(SITE, y, x)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)


def test_a_plan_follows_a_slot_that_is_rewritten_and_rows_that_change() -> None:
    factors = adapters(torch.float32)
    pool = pool_of(factors)
    x = random(4, IN, dtype=torch.float32, seed=1)
    for row_slots in ([0, 1, 2, 3], [0, 1, None, 1], [1, 1, 0, 0], [3, 2, 1, 0]):
        y = torch.zeros(4, OUT)
        pool.plan(row_slots, 4).add(SITE, y, x)
        expected = densely(torch.zeros(4, OUT), x, factors, row_slots)
        torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
        factors[1], factors[2] = factors[2], factors[1]
        for slot in (1, 2):
            pool.write(slot, PackedAdapter("new", "new", factors[slot].rank, {SITE: factors[slot]}))


def test_a_site_that_an_adapter_leaves_alone_stays_as_it_was() -> None:
    pool = pool_of(adapters(torch.float32)[:2])
    pool.write(1, PackedAdapter("bare", "bare", 1, {}))
    x, y = random(2, IN, dtype=torch.float32, seed=1), torch.zeros(2, OUT)
    pool.plan([0, 1], 2).add(SITE, y, x)
    assert y[0].any()
    assert not y[1].any()
