"""From conversations to token ids, through the renderer that serving uses too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry.errors import TemplateFailed
from registry.hats import Hat, render_chat

from .errors import BaseError, DataError
from .examples import Example, Message
from .recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label that torch's cross entropy leaves out


@dataclass(frozen=True)
class Sample:
    """One row as the model sees it: `num_prompt` tokens to read, the rest to learn."""

    input_ids: tuple[int, ...]
    num_prompt: int
    place: str

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def labels(self) -> tuple[int, ...]:
        """One label for each input id; those of the prompt are ignored."""
        return (IGNORED,) * self.num_prompt + self.input_ids[self.num_prompt :]


class Renderer:
    """Renders conversations under one hat for one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, hat: Hat) -> None:
        template = hat.chat_template or tokenizer.chat_template
        if not isinstance(template, str):
            raise BaseError("The base has no chat template: give one in `hat.chat_template`.")
        if tokenizer.eos_token_id is None:
            raise BaseError("The base's tokenizer has no end-of-sequence token to learn.")
        self.template = template
        self.hat = hat
        self._tokenizer = tokenizer

    @property
    def bos_token(self) -> str:
        """What the template gets as the beginning of a sequence; empty where there is none."""
        return str(self._tokenizer.bos_token or "")

    @property
    def eos_token(self) -> str:
        """What the template gets as the end of a sequence."""
        return str(self._tokenizer.eos_token)

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """The text up to where the answer begins. Raises `TemplateFailed`."""
        return render_chat(
            self.template,
            self.hat.apply(messages),
            add_generation_prompt=True,
            bos_token=self.bos_token,
            eos_token=self.eos_token,
        )

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of `prompt_text`; the template writes special tokens, none are added."""
        return self._encode(self.prompt_text(messages))

    def sample(self, example: Example) -> Sample:
        """Prompt, answer and the end-of-sequence token.

        The answer is tokenized apart from the prompt, as it is generated when served, and always
        ends with EOS: an adapter that never saw it would never stop.
        """
        prompt = self.prompt_ids(example.prompt)
        eos = int(self._tokenizer.eos_token_id)
        ids = (*prompt, *self._encode(example.answer), eos)
        return Sample(ids, len(prompt), example.place)

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))


def render_samples(
    examples: Sequence[Example], renderer: Renderer, recipe: Recipe
) -> tuple[Sample, ...]:
    """Samples of at most `train.max_length` tokens each.

    Raises `DataError` naming every row the template refuses, and, with `too_long: error`, every
    row that is too long.
    """
    samples, problems = [], []
    limit, policy = recipe.train.max_length, recipe.data.too_long
    for example in examples:
        try:
            sample = renderer.sample(example)
        except TemplateFailed as error:
            problems.append(f"{example.place}: {error.message}")
            continue
        if len(sample) <= limit:
            samples.append(sample)
        elif policy == "error":
            problems.append(
                f"{sample.place}: {len(sample)} tokens are more than `train.max_length` {limit}; "
                "raise it, or say in `data.too_long` to drop or cut such rows"
            )
        elif (cut := _cut(sample, limit, policy)) is not None:
            samples.append(cut)
    if examples and not samples and not problems:
        problems.append(f"no row is left: all are longer than `train.max_length` {limit} tokens")
    if problems:
        raise DataError(problems)
    return tuple(samples)


def _cut(sample: Sample, limit: int, policy: str) -> Sample | None:
    """Keep one end of the row, or None where nothing to learn is left."""
    excess = len(sample) - limit
    if policy == "left":
        return Sample(sample.input_ids[excess:], max(0, sample.num_prompt - excess), sample.place)
    if policy == "right" and sample.num_prompt < limit:
        return Sample(sample.input_ids[:limit], sample.num_prompt, sample.place)
    return None
