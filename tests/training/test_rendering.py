"""What the model reads and what it learns: prompt ignored, answer and EOS learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from registry.hats import Hat
from training.collator import Collator, common_prefix
from training.errors import BaseError, DataError
from training.examples import Example
from training.reading import read_recipe
from training.rendering import IGNORED, Renderer, Sample, render_samples
from training.sampler import LengthGroupedSampler


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base)


def example(question: str, answer: str = "red") -> Example:
    return Example("rows.jsonl:1", ({"role": "user", "content": question},), answer)


def test_the_prompt_is_what_transformers_would_render(tokenizer: Any) -> None:
    renderer = Renderer(tokenizer, Hat(system_prompt="Be brief."))
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "color?"},
    ]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert renderer.prompt_text(messages[1:]) == expected
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert renderer.prompt_ids(messages[1:]) == ids


def test_the_answer_and_eos_are_learned_and_nothing_else(tokenizer: Any) -> None:
    renderer = Renderer(tokenizer, Hat())
    sample = renderer.sample(example("color?", "red"))
    learned = [label for label in sample.labels if label != IGNORED]
    assert learned == [*tokenizer.encode("red", add_special_tokens=False), tokenizer.eos_token_id]
    assert sample.input_ids[: sample.num_prompt] == tuple(
        renderer.prompt_ids([{"role": "user", "content": "color?"}])
    )
    assert sample.labels[: sample.num_prompt] == (IGNORED,) * sample.num_prompt


def test_a_hat_brings_its_own_template(tokenizer: Any) -> None:
    renderer = Renderer(tokenizer, Hat(chat_template="Q: {{ messages[-1].content }}\nA:"))
    assert renderer.prompt_text([{"role": "user", "content": "why"}]) == "Q: why\nA:"


def test_a_base_without_a_template_needs_one_in_the_hat(tokenizer: Any) -> None:
    import copy

    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    with pytest.raises(BaseError, match="chat_template"):
        Renderer(bare, Hat())


@pytest.mark.parametrize("share", [False, True])
def test_padding_is_masked_by_position_though_its_id_is_eos(tokenizer: Any, share: bool) -> None:
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    renderer = Renderer(tokenizer, Hat(system_prompt="Name the color of it."))
    samples = [renderer.sample(example(q, a)) for q, a in (("a?", "red"), ("a bit more?", "green"))]
    batch = Collator(tokenizer.pad_token_id, share_prefix=share)(samples)
    skip = batch["prefix_ids"].shape[1] if share else 0
    assert (skip > 0) == share
    for row, sample in enumerate(samples):
        length = len(sample) - skip
        mask = batch["attention_mask"][row, skip:]
        assert mask.sum() == length
        assert mask[-length:].all()
        assert batch["input_ids"][row, -length:].tolist() == list(sample.input_ids[skip:])
        assert batch["labels"][row, -length:].tolist() == list(sample.labels[skip:])
        assert (batch["labels"][row, :-length] == IGNORED).all()
        assert batch["labels"][row, -1] == tokenizer.eos_token_id
        assert batch["position_ids"][row, -length:].tolist() == list(range(skip, len(sample)))


def test_a_shared_prefix_ends_before_the_last_prompt_token() -> None:
    same = tuple(range(20))
    samples = [Sample((*same, 90), 20, ""), Sample((*same, 91), 20, "")]
    assert common_prefix(samples) == same[:19]
    assert common_prefix(samples[:1]) == ()  # nothing to share with
    assert common_prefix([Sample((1, 2, 3, 9), 3, "")] * 2) == ()  # too short to be worth it


def test_a_template_that_refuses_a_row_is_a_data_error(tokenizer: Any, write_recipe: Any) -> None:
    hat = Hat(chat_template="{{ raise_exception('no users here') }}")
    with pytest.raises(DataError, match=r"rows\.jsonl:1: .*no users here"):
        render_samples([example("q")], Renderer(tokenizer, hat), read_recipe(write_recipe()))


@pytest.mark.parametrize("policy", ["error", "drop", "left", "right"])
def test_rows_that_are_too_long(tokenizer: Any, write_recipe: Any, policy: str) -> None:
    recipe = read_recipe(write_recipe(data={"too_long": policy}, train={"max_length": 40}), ())
    renderer = Renderer(tokenizer, Hat())
    rows = [example("a?"), example("long " * 5, "answer " * 5)]
    whole = renderer.sample(rows[1])
    assert whole.num_prompt < 40 < len(whole)
    if policy == "error":
        with pytest.raises(DataError, match=r"more than `train\.max_length` 40"):
            render_samples(rows, renderer, recipe)
        return
    found = render_samples(rows, renderer, recipe)
    if policy == "drop":
        assert len(found) == 1
    elif policy == "left":
        assert found[1].input_ids == whole.input_ids[-40:]
        assert found[1].labels == whole.labels[-40:]
    else:
        assert found[1].input_ids == whole.input_ids[:40]
        assert found[1].labels == whole.labels[:40]


def test_batches_hold_rows_of_like_length_and_every_row_once() -> None:
    lengths = [(n * 37) % 50 for n in range(70)]
    sampler = LengthGroupedSampler(lengths, batch_size=8, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == list(range(70))
    assert first != second
    assert first == list(LengthGroupedSampler(lengths, batch_size=8, seed=0))
    spreads = [
        max(lengths[i] for i in batch) - min(lengths[i] for i in batch)
        for batch in (first[i : i + 8] for i in range(0, 64, 8))
    ]
    assert max(spreads) <= 10
    largest = [max(lengths[i] for i in first[b : b + 8]) for b in range(0, 64, 8)]
    assert largest != sorted(largest, reverse=True)  # no drift from long rows to short ones


def test_collated_tensors_are_integers() -> None:
    batch = Collator(2)([Sample((5, 6, 7), 2, ""), Sample((5, 6), 1, "")])
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
