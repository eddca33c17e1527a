"""What of a conversation is learned, and what a cut takes away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry.hats import Hat
from training.examples import Example
from training.lengths import Lengths
from training.rendering import IGNORED, Renderer, render
from training.samples import Sample, fit


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base)


def talk(*turns: str, unlearned: frozenset[int] = frozenset()) -> Example:
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)]
    return Example("rows.jsonl:1", tuple(messages[:-1]), turns[-1], unlearned)


def learned(sample: Sample, tokenizer: Any) -> str:
    return str(tokenizer.decode([label for label in sample.labels if label != IGNORED]))


def test_all_turns_of_the_assistant_are_learned_in_one_sample(tokenizer: Any) -> None:
    renderer = Renderer(tokenizer, Hat())  # its template ends each message with EOS
    [sample] = renderer.samples(talk("a?", "red", "b?", "green"), "assistant")
    assert learned(sample, tokenizer) == "red</s>green</s>"
    [last] = renderer.samples(talk("a?", "red", "b?", "green"), "answer")
    assert last.input_ids == sample.input_ids
    assert learned(last, tokenizer) == "green</s>"


def test_a_turn_of_weight_0_is_read_and_not_learned(tokenizer: Any) -> None:
    renderer = Renderer(tokenizer, Hat())
    example = talk("a?", "red", "b?", "green", unlearned=frozenset({1}))
    [sample] = renderer.samples(example, "assistant")
    assert learned(sample, tokenizer) == "green</s>"


def test_a_template_that_writes_no_eos_gives_each_turn_a_sample(tokenizer: Any) -> None:
    hat = Hat(chat_template="{% for m in messages %}{{ m.content }}\n{% endfor %}> ")
    samples = Renderer(tokenizer, hat).samples(talk("a?", "red", "b?", "green"), "assistant")
    assert [learned(sample, tokenizer) for sample in samples] == ["red</s>", "green</s>"]


def test_full_loss_learns_the_prompt_too(tokenizer: Any) -> None:
    [sample] = Renderer(tokenizer, Hat()).samples(talk("a?", "red"), "full")
    assert sample.labels == (IGNORED, *sample.input_ids[1:])
    assert sample.input_ids[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("text", ["once upon", "<s>once upon</s>", "once upon</s>"])
def test_plain_text_is_learned_to_one_eos(tokenizer: Any, text: str) -> None:
    [sample] = render([Example("t:1", (), text)], Renderer(tokenizer, Hat()))
    assert sample.input_ids.count(tokenizer.eos_token_id) == 1
    assert sample.labels[-1] == tokenizer.eos_token_id
    assert sample.input_ids.count(tokenizer.bos_token_id) <= 1


def test_cuts_keep_what_was_learned() -> None:
    whole = Sample.learning(tuple(range(10)), [(2, 4), (6, 9)], "x")
    i = IGNORED
    assert whole.labels == (i, i, 2, 3, i, i, 6, 7, 8, i)
    for count in range(9):
        assert whole.without_start(count).labels == whole.labels[count:]
        assert whole.without_end(count).labels == whole.labels[: 10 - count]
    assert not whole.without_end(8).teaches
    assert whole.without_end(7).teaches


def test_a_right_cut_drops_rows_without_an_answer() -> None:
    rows = [Sample(tuple(range(9)), 8, "a"), Sample(tuple(range(9)), 2, "b")]
    assert [s.place for s in fit(rows, 5, "right")] == ["b"]
    assert [s.place for s in fit(rows, 5, "left")] == ["a", "b"]


def test_a_quantile_is_the_length_that_so_many_rows_do_not_exceed() -> None:
    twenty = Lengths([Sample(tuple(range(n)), 1, "") for n in range(1, 21)], 30, 1)
    assert [twenty.quantile(share) for share in (0.5, 0.95, 1.0)] == [10, 19, 20]
    one = Lengths(twenty.samples[4:5], 4, 1)
    assert one.quantile(0.5) == 5
    assert one.describe().startswith("1 row of 5 to 5 tokens, half up to 5, 95% up to 5; 1 row is")


def test_lengths_say_what_each_cut_would_cost(tmp_path: Path) -> None:
    rows = [Sample(tuple(range(n)), n - 2, "") for n in (4, 6, 8, 20)]
    rows.append(Sample(tuple(range(12)), 3, ""))
    lengths = Lengths(rows, limit=10, batch_size=2)
    assert (lengths.num_over, lengths.without_answer) == (2, 1)
    assert lengths.quantile(0.5) == 8
    assert lengths.padded() == [6, 6, 10, 10, 10]
    assert "5 rows of 4 to 20 tokens" in lengths.describe()
    assert "2 rows are over 10" in lengths.describe()
    assert "over" not in Lengths(rows, limit=20, batch_size=2).describe()
    lengths.plot(tmp_path / "x.png", title="t")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
