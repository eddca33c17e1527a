"""Likelihoods against the definition: each row alone, all logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from training.evaluating.general import Window, read_text, windows
from training.evaluating.likelihood import likelihoods
from training.rendering import Sample

TEXTS: tuple[Sample | Window, ...] = (
    Sample((5, 6, 7, 8, 9, 2), 3, "a"),
    Window((1, 40, 41, 42)),
    Sample((11, 12, 13, 2), 1, "b"),
)


@pytest.fixture(scope="module")
def model(tiny_base: Path) -> Any:
    from transformers import MistralForCausalLM

    return MistralForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_padding_and_batches_change_nothing(model: Any, batch_size: int) -> None:
    found = likelihoods(model, TEXTS, batch_size=batch_size)
    for text, likelihood in zip(TEXTS, found, strict=True):
        logits = model(torch.tensor([text.input_ids])).logits[0, :-1].detach()
        labels = torch.tensor(text.labels[1:])
        nats = F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
        assert likelihood.nats == pytest.approx(float(nats), rel=1e-5)
        assert likelihood.tokens == int((labels != -100).sum())
        assert likelihood.right == int((logits.argmax(-1) == labels).sum())


def test_windows_cover_the_text_once(tiny_base: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    text = read_text(None)[:400]
    pieces = windows(text, tokenizer, length=33)
    assert all(piece.input_ids[0] == tokenizer.bos_token_id for piece in pieces)
    assert {len(piece.input_ids) for piece in pieces[:-1]} == {33}
    predicted = [token for piece in pieces for token in piece.input_ids[1:]]
    assert tokenizer.decode(predicted) == text
    assert pieces[0].labels[:2] == (-100, pieces[0].input_ids[1])
