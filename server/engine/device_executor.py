"""Run batches on a device beside the host: the next step is launched before this one is read."""

from __future__ import annotations

import itertools
from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch

from server.engine.batch import Batch, Chunk
from server.engine.choosing import NO_TOKEN
from server.engine.decode_steps import DecodeSteps
from server.engine.device_masks import DeviceMasks
from server.engine.device_model import DeviceModel
from server.engine.executor import Outcome
from server.engine.graphs import Recorder
from server.engine.marks import Mark, set_mark
from server.engine.prompt_pass import PromptPass, RanksOf, Reading
from server.engine.prompt_steps import PromptSteps
from server.engine.sampled import Sampled
from server.engine.sampler import Sampler
from server.engine.sequence import Sequence
from server.engine.staging import Staging, is_random

LOOKAHEAD = 1


@dataclass(frozen=True)
class _OnHost:
    """Sequences of a step whose tokens the host chooses, and their logits on the device."""

    rows: Items[int]  # among those that sample
    sequences: Items[Sequence]
    logits: torch.Tensor  # [sequences, vocab]


class DeviceExecutor:
    """Decoding sequences go through a recorded step, prompt chunks through a pass behind it.

    Tokens are chosen on the device and stay there as the next step's input; the host reads them
    one step later. A sequence whose token the host has to choose sits out one step.
    """

    lookahead = LOOKAHEAD

    def __init__(
        self,
        model: DeviceModel,
        sampler: Sampler,
        recorder: Recorder,
        *,
        max_batch: int,
        max_context: int,
        chunk: int,
        ranks: RanksOf,
    ) -> None:
        block_size = model.cache.shape[3]
        self._model = model
        self._sampler = sampler
        self._device = model.cache.device
        self._max_batch = max_batch
        depth = LOOKAHEAD + 2
        max_blocks = -(-max_context // block_size)
        self._staging = Staging(max_batch, max_blocks, block_size, self._device, depth=depth)
        # Decoding rows first, then the chunks that sample.
        self._chosen = torch.zeros(2 * max_batch, dtype=torch.int64, device=self._device)
        pin = self._device.type == "cuda"
        self._read = itertools.cycle(
            [torch.zeros(2 * max_batch, dtype=torch.int64, pin_memory=pin) for _ in range(depth)]
        )
        self._places: dict[Sequence, int] = {}
        rows = self._staging.device.rows
        self.steps = DecodeSteps(model, rows, self._chosen)
        # A step may decode and run a prompt pass.
        self._masks = DeviceMasks(
            model.kernels,
            self._device,
            max_rows=max_batch,
            vocab=model.config.vocab_size,
            turns=2 * depth,
        )
        self._passes = PromptPass(model, self._masks, block_size, self._device, ranks)
        self._prompts = PromptSteps(
            model,
            self._passes,
            self._chosen[max_batch:],
            most=min(chunk, max_context),
            max_blocks=max_blocks,
            depth=depth,
        )
        with torch.inference_mode():
            self.steps.record(recorder)
            self._prompts.record(recorder)

    @property
    def vocab_size(self) -> int:
        return self._model.config.vocab_size

    @property
    def weight_bytes(self) -> int:
        return self._model.weights.nbytes

    def launch(self, batch: Batch) -> Outcome:
        logits = []
        readings: list[Reading] = []
        if batch.decoding:
            logits.append(self._decode(batch.decoding))
        if batch.prefilling:
            prompts, readings = self._prefill(batch.prefilling)
            logits.append(prompts)
        places = [*range(len(batch.decoding)), *range(self._max_batch, 2 * self._max_batch)]
        self._places = dict(zip(batch.sampling, places, strict=False))
        return self._outcome(batch, logits, readings)

    def _decode(self, chunks: Items[Chunk]) -> torch.Tensor:
        """Logits [chunks, vocab] of one token each, which the next step overwrites."""
        count = len(chunks)
        size = self.steps.size_for(count)
        self._staging.send(chunks, size, self._places)
        adapted = any(chunk.sequence.slot is not None for chunk in chunks)
        self.steps.run(size, adapted=adapted)
        logits = self.steps.logits[:count]
        self._masks.apply(logits, self._chosen[:count], [chunk.sequence for chunk in chunks])
        if any(is_random(chunk.sequence) for chunk in chunks):
            self.steps.draw(size)
        return logits

    def _prefill(self, chunks: Items[Chunk]) -> tuple[torch.Tensor, list[Reading]]:
        """Logits [samples, vocab] of the chunks that sample, and what others ask for."""
        is_read = any(chunk.is_scored or chunk.is_pooled for chunk in chunks)
        if not is_read and self._prompts.takes(chunks):
            return self._prompts.run(chunks), []
        num_samples = sum(chunk.samples for chunk in chunks)
        chosen = self._chosen[self._max_batch :][:num_samples]
        if is_read:
            return self._passes.run_read(chunks, chosen)
        return self._passes.run(chunks, chosen), []

    def _outcome(
        self, batch: Batch, logits: Items[torch.Tensor], readings: Items[Reading]
    ) -> Outcome:
        """What reads the step's tokens once they are there."""
        on_host = _for_host(batch, logits)
        host = next(self._read)
        host.copy_(self._chosen, non_blocking=True)
        mark = set_mark(self._device)
        places = list(self._places.values())

        def read() -> Items[Sampled | None]:
            sampled = self._collect(host, mark, places, on_host)
            for reading in readings:
                reading.record()
            return sampled

        return read

    def _collect(
        self, host: torch.Tensor, mark: Mark, places: Items[int], on_host: _OnHost | None
    ) -> Items[Sampled | None]:
        mark.wait()
        chosen = host.tolist()
        tokens = [chosen[place] for place in places]
        sampled = [None if token == NO_TOKEN else Sampled(token) for token in tokens]
        if on_host is not None:
            theirs = self._sampler.sample(on_host.logits.cpu(), on_host.sequences)
            for row, choice in zip(on_host.rows, theirs, strict=True):
                sampled[row] = choice
        return sampled


def _for_host(batch: Batch, logits: Items[torch.Tensor]) -> _OnHost | None:
    """Copies of the logits that the host needs, made before the next step overwrites them."""
    sampling = batch.sampling
    rows = [row for row, sequence in enumerate(sampling) if sequence.needs_host]
    if not rows:
        return None
    picked = torch.cat(tuple(logits))[rows]
    return _OnHost(rows, [sampling[row] for row in rows], picked)
