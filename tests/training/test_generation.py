"""Greedy answers: the same in a batch as alone, ended by EOS and stop strings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from registry.hats import Hat
from training.evaluation import score
from training.examples import Example
from training.generation import Generator
from training.rendering import Renderer


@pytest.fixture(scope="module")
def parts(tiny_base: Path) -> tuple[Any, Any]:
    from transformers import AutoTokenizer, MistralForCausalLM

    model = MistralForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(tiny_base)


def generator(parts: tuple[Any, Any], *stop: str, max_tokens: int = 12) -> Generator:
    return Generator(*parts, stop, max_tokens, batch_size=2)


PROMPTS = [[5, 6, 7], [80, 81, 82, 83, 84, 85, 86], [200], [90, 91]]


def test_a_batch_answers_as_each_prompt_alone(parts: tuple[Any, Any]) -> None:
    made = generator(parts)
    assert made.texts(PROMPTS) == [made.texts([prompt])[0] for prompt in PROMPTS]


def test_a_trace_has_logits_for_every_token(parts: tuple[Any, Any]) -> None:
    ids, logits = generator(parts).trace(PROMPTS[0])
    assert logits.shape == (len(ids), 320)
    assert logits.argmax(-1).tolist() == ids


def test_margins_are_those_of_each_prompt_alone(parts: tuple[Any, Any]) -> None:
    made = generator(parts)
    best = [made.trace(prompt)[1].topk(2).values for prompt in PROMPTS]
    wanted = [(each[:, 0] - each[:, 1]).min().item() for each in best]
    assert made.margins(PROMPTS) == pytest.approx(wanted, abs=1e-4)
    assert len({round(each, 3) for each in wanted}) > 1


def test_stop_strings_cut_and_end(parts: tuple[Any, Any]) -> None:
    [whole] = generator(parts).texts(PROMPTS[:1])
    stop = whole[3:5]
    [cut] = generator(parts, stop).texts(PROMPTS[:1])
    assert cut == whole[: whole.find(stop)]


def test_the_score_counts_exact_answers(parts: tuple[Any, Any]) -> None:
    tokenizer = parts[1]
    renderer = Renderer(tokenizer, Hat())
    made = generator(parts)
    asked = [({"role": "user", "content": text},) for text in ("one", "two")]
    [right, _] = made.texts([renderer.prompt_ids(prompt) for prompt in asked])
    examples = [
        Example("a", asked[0], f" {right.strip()}\n"),
        Example("b", asked[1], "something else"),
    ]
    result = score(examples, renderer, made)
    assert result.right == (True, False)
    assert result.exact_match == 0.5
    # Cut once it was as long as the right answer, and so before the limit.
    [to_the_end] = generator(parts, max_tokens=60).texts([renderer.prompt_ids(asked[1])])
    cut = score(examples[1:], renderer, generator(parts, max_tokens=60)).answers[0]
    assert to_the_end.startswith(cut.rstrip("\ufffd"))
    assert len(cut) < len(to_the_end)
