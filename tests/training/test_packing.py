"""Packed rows are exact: the loss and gradients are those of each sample alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from training.packing import Pack, PackCollator, pack
from training.samples import IGNORED, Sample

SAMPLES = (
    Sample((40, 41, 42, 43, 2), 2, "a"),
    Sample((50, 51, 52, 2), 1, "b"),  # all but its first token is learned
    Sample((60, 61, 62, 63, 64, 65, 2), 4, "c"),
)


def test_packs_hold_every_sample_once_and_keep_to_the_limit() -> None:
    samples = [Sample(tuple(range(3 + (n * 7) % 30)), 1, str(n)) for n in range(50)]
    packs = pack(samples, 40)
    assert sorted(s.place for each in packs for s in each.samples) == sorted(map(str, range(50)))
    assert max(map(len, packs)) <= 40
    total = sum(map(len, samples))
    assert len(packs) <= 1.1 * total / 40 + 1


def test_positions_begin_again_and_no_sample_predicts_the_next() -> None:
    batch = PackCollator(2, length=20)([Pack(SAMPLES)])
    assert batch.keys() == {"input_ids", "position_ids", "labels"}  # a mask would let them mix
    assert batch["position_ids"][0].tolist() == [*range(5), *range(4), *range(7), 0, 0, 0, 0]
    labels = batch["labels"][0]
    assert [labels[start] for start in (0, 5, 9)] == [IGNORED] * 3
    assert (labels[16:] == IGNORED).all()
    assert labels[4] == labels[8] == labels[15] == 2  # each EOS is learned


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_loss_and_gradients_are_those_of_each_sample_alone(
    tiny_base: Path, tmp_path: Path, attention: str
) -> None:
    from transformers import MistralForCausalLM

    model: Any = MistralForCausalLM.from_pretrained(
        tiny_base, dtype=torch.float32, attn_implementation=attention
    )
    model.train()
    total, count = torch.tensor(0.0), 0
    for sample in SAMPLES:
        logits = model(torch.tensor([sample.input_ids])).logits[0, :-1]
        labels = torch.tensor(sample.labels[1:])
        total = total + F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        count += int((labels != IGNORED).sum())
    (total / count).backward()
    alone = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    # Rows of several lengths, so that there is padding behind a packed one too.
    batch = PackCollator(2)([Pack(SAMPLES[:2]), Pack(SAMPLES[2:])])
    from .test_trainer import trainer

    made = trainer(model, tmp_path)
    packed = made.compute_loss(model, batch, num_items_in_batch=torch.tensor(count))
    packed.backward()
    torch.testing.assert_close(packed, total / count, rtol=1e-5, atol=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, alone[name], rtol=1e-4, atol=1e-6)
