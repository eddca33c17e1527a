"""Grammars' masks on a device: made on the host while the device computes the logits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch

from server.engine.choosing import choose
from server.engine.sequence import Sequence
from server.engine.step_kernels import StepKernels

WORD = 32  # tokens


@dataclass(frozen=True)
class _MaskBlock:
    """masks: [rows, words] int32. rows: [rows] int64, which row of the logits each is of."""

    masks: torch.Tensor
    rows: torch.Tensor

    @classmethod
    def make(cls, rows: int, words: int, device: torch.device, *, pin: bool) -> _MaskBlock:
        return cls(
            torch.zeros(rows, words, dtype=torch.int32, device=device, pin_memory=pin),
            torch.zeros(rows, dtype=torch.int64, device=device, pin_memory=pin),
        )


class DeviceMasks:
    """Holds sequences to their grammars, behind the pass that computes their logits.

    Nothing happens, on either side, when no sequence has a grammar. The host waits for masks,
    never for the device. turns: how many passes may be under way at once, the one being launched
    included.
    """

    def __init__(
        self, kernels: StepKernels, device: torch.device, *, max_rows: int, vocab: int, turns: int
    ) -> None:
        self._kernels = kernels
        words = -(-vocab // WORD)
        host, pin = torch.device("cpu"), device.type == "cuda"
        blocks = [_MaskBlock.make(max_rows, words, host, pin=pin) for _ in range(turns)]
        self._turns = itertools.cycle(blocks)
        self._device = _MaskBlock.make(max_rows, words, device, pin=False)

    def apply(self, logits: torch.Tensor, chosen: torch.Tensor, sequences: Items[Sequence]) -> None:
        """Mask `logits` [sequences, vocab], and choose anew: `chosen` [sequences] int64, greedy.

        Sequences whose token the host chooses keep their logits; it masks them itself.
        """
        rows = [row for row, sequence in enumerate(sequences) if is_masked(sequence)]
        if not rows:
            return
        block, count = next(self._turns), len(rows)
        masks = block.masks.numpy()
        for at, row in enumerate(rows):
            matcher = sequences[row].matcher
            assert matcher is not None
            masks[at] = matcher.mask()
        block.rows.numpy()[:count] = rows
        to = self._device
        to.masks[:count].copy_(block.masks[:count], non_blocking=True)
        to.rows[:count].copy_(block.rows[:count], non_blocking=True)
        self._kernels.mask_logits(logits, to.masks[:count], to.rows[:count])
        chosen.copy_(choose(logits, self._kernels))


def is_masked(sequence: Sequence) -> bool:
    """Whether the device holds the sequence to its grammar."""
    return sequence.matcher is not None and not sequence.needs_host
