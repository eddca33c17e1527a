"""Greedy answers from the model in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Told row and its new token ids so far; True ends the row.
IsHopeless = Callable[[int, Sequence[int]], bool]


@dataclass(frozen=True)
class Generator:
    """Generates greedily, as served at temperature 0: to EOS, a stop string, or the limit."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    stop: tuple[str, ...]
    max_tokens: int
    batch_size: int

    def texts(
        self, prompts: Sequence[Sequence[int]], is_hopeless: IsHopeless | None = None
    ) -> list[str]:
        """The answer to each prompt, in the same order; stop strings and what follows are cut.

        A row for which `is_hopeless` says so ends early.
        """
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        answers = [""] * len(prompts)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            generated = self._batch([prompts[row] for row in rows], rows, is_hopeless)
            for row, token_ids in zip(rows, generated, strict=True):
                answers[row] = self._text(token_ids)
        return answers

    def trace(self, prompt: Sequence[int]) -> tuple[list[int], torch.Tensor]:
        """One prompt alone: its new token ids (EOS included) and logits [new tokens, vocab]."""
        result = self._generate(torch.tensor([prompt]), None, output_logits=True)
        logits = torch.cat(result.logits).float()
        return result.sequences[0, len(prompt) :].tolist(), logits

    def margins(self, prompts: Sequence[Sequence[int]]) -> list[float]:
        """By how much the least sure token of each answer (EOS included) led the second, in logits.

        Found in batches, so within rounding of what `trace` finds for each prompt alone.
        """
        found = []
        for start in range(0, len(prompts), self.batch_size):
            input_ids, mask = self._padded(prompts[start : start + self.batch_size])
            result = self._generate(input_ids, mask, output_logits=True)
            best = torch.stack([step.float().topk(2).values for step in result.logits], dim=1)
            leads = (best[..., 0] - best[..., 1]).tolist()  # [batch, new tokens]
            new = result.sequences[:, input_ids.shape[1] :].tolist()
            for token_ids, row in zip(new, leads, strict=True):
                found.append(min(row[: len(self._until_eos(token_ids)) + 1]))
        return found

    def _batch(
        self, prompts: list[Sequence[int]], rows: list[int], is_hopeless: IsHopeless | None
    ) -> list[list[int]]:
        input_ids, mask = self._padded(prompts)
        longest = input_ids.shape[1]
        criteria = [_RowEnds(self, rows, longest, is_hopeless)]
        result = self._generate(input_ids, mask, stopping_criteria=criteria)
        return [self._until_eos(ids) for ids in result.sequences[:, longest:].tolist()]

    def _padded(self, prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask [prompts, longest]; every answer begins in one column."""
        longest = max(map(len, prompts))
        input_ids = torch.full((len(prompts), longest), self._pad)
        mask = torch.zeros_like(input_ids)
        for index, prompt in enumerate(prompts):
            input_ids[index, longest - len(prompt) :] = torch.tensor(list(prompt))
            mask[index, longest - len(prompt) :] = 1
        return input_ids, mask

    @torch.no_grad()
    def _generate(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, **options: Any
    ) -> Any:
        place = self.model.device
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return self.model.generate(
            input_ids=input_ids.to(place),
            attention_mask=mask.to(place),
            max_new_tokens=self.max_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self._pad,
            return_dict_in_generate=True,
            **options,
        )

    @property
    def _pad(self) -> int:
        return int(self.tokenizer.eos_token_id)

    def _until_eos(self, token_ids: list[int]) -> list[int]:
        eos = self.tokenizer.eos_token_id
        return token_ids[: token_ids.index(eos)] if eos in token_ids else token_ids

    def _text(self, token_ids: Sequence[int]) -> str:
        text = str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))
        places = [text.find(stop) for stop in self.stop]
        return text[: min((p for p in places if p >= 0), default=len(text))]


class _RowEnds:
    """transformers' stopping criterion for stop strings and hopeless rows."""

    def __init__(
        self, owner: Generator, rows: list[int], num_prompt: int, is_hopeless: IsHopeless | None
    ) -> None:
        self._owner = owner
        self._rows = rows
        self._num_prompt = num_prompt
        self._is_hopeless = is_hopeless

    def __call__(self, input_ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        """input_ids [batch, tokens so far] → whether each row is done, [batch]."""
        new = input_ids[:, self._num_prompt :].tolist()
        done = [self._ends(row, ids) for row, ids in zip(self._rows, new, strict=True)]
        return torch.tensor(done, device=input_ids.device)

    def _ends(self, row: int, token_ids: list[int]) -> bool:
        if self._is_hopeless is not None and self._is_hopeless(row, token_ids):
            return True
        if not self._owner.stop:
            return False
        text = str(self._owner.tokenizer.decode(token_ids, skip_special_tokens=True))
        return any(stop in text for stop in self._owner.stop)
