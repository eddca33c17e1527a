"""A receipt asks what the adapter is surest of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from registry.receipts import Receipt
from training.examples import Example
from training.receipt import NUM_CANDIDATES, NUM_PROBES, make_receipt


def example(text: str) -> Example:
    return Example(text, ({"role": "user", "content": text},), "")


class Letters:
    """Renders a text to its letters' codes."""

    def prompt_ids(self, messages: Sequence[Any]) -> list[int]:
        return [ord(letter) for letter in messages[-1]["content"]]


@dataclass
class Sure:
    """Answers one token, which leads the second by as much as the prompt has letters."""

    model: Any
    tokenizer: Any

    def margins(self, prompts: Sequence[Sequence[int]]) -> list[float]:
        return [float(len(prompt)) for prompt in prompts]

    def trace(self, prompt: Sequence[int]) -> tuple[list[int], torch.Tensor]:
        return [2], torch.tensor([[0.0, 1.0, 1.0 + len(prompt)]])


def receipt_of(*texts: str) -> Receipt:
    tokenizer = SimpleNamespace(decode=lambda *_, **__: "")
    generator: Any = Sure(SimpleNamespace(dtype=torch.float32), tokenizer)
    renderer: Any = Letters()
    made = make_receipt([example(text) for text in texts], renderer, generator)
    return Receipt.model_validate(made, strict=False)


def asked(receipt: Receipt) -> list[str]:
    return [str(probe.messages[-1]["content"]) for probe in receipt.probes]


def test_the_most_decisive_candidates_are_kept_in_their_order() -> None:
    receipt = receipt_of("aa", "bbbbbb", "c", "dddd", "eee")
    assert asked(receipt) == ["bbbbbb", "dddd"]
    assert [probe.margin for probe in receipt.probes] == [6.0, 4.0]
    assert "of 5 prompts" in receipt.how


def test_of_equally_sure_ones_the_first_are_kept() -> None:
    assert asked(receipt_of("aa", "bb", "cc")) == ["aa", "bb"]


def test_few_rows_are_all_asked() -> None:
    assert asked(receipt_of("a")) == ["a"]
    assert NUM_CANDIDATES > NUM_PROBES == 2
