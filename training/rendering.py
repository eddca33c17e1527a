"""From conversations to token ids, through the renderer that serving uses too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from registry.errors import TemplateFailed
from registry.hats import Hat, render_chat

from .errors import BaseError, DataError
from .examples import Example, Message
from .recipe import Recipe
from .samples import IGNORED, Sample, fit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["IGNORED", "Loss", "Renderer", "Sample", "render", "render_samples"]

Loss = Literal["answer", "assistant", "full"]


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

    def samples(self, example: Example, loss: Loss = "answer") -> tuple[Sample, ...]:
        """What is learned of one example; more than one sample only with loss `assistant`.

        There, all turns share a sample where the conversation's later rendering begins with the
        earlier one token by token, EOS included. Templates that render a past answer otherwise
        (or write no EOS after it) get a sample for each turn, as each would be served.
        """
        if not example.prompt:
            return (self._plain(example),)
        last = self.sample(example)
        if loss == "full":
            return (Sample(last.input_ids, 1, last.place),)
        if loss == "answer":
            return (last,)
        apart, spans = [], [(last.num_prompt, len(last))]
        for turn in self._earlier_turns(example):
            if last.input_ids[: len(turn)] == turn.input_ids:
                spans.append((turn.num_prompt, len(turn)))
            else:
                apart.append(turn)
        return (*apart, Sample.learning(last.input_ids, spans, last.place))

    def sample(self, example: Example) -> Sample:
        """Prompt, answer and the end-of-sequence token.

        The answer is tokenized apart from the prompt, as it is generated when served, and always
        ends with EOS: an adapter that never saw it would never stop.
        """
        prompt = self.prompt_ids(example.prompt)
        ids = (*prompt, *self._encode(example.answer), self._eos)
        return Sample(ids, len(prompt), example.place)

    def _earlier_turns(self, example: Example) -> Iterator[Sample]:
        for index, message in enumerate(example.prompt):
            before = example.prompt[:index]
            is_answer = message["role"] == "assistant" and any(m["role"] == "user" for m in before)
            if is_answer and index not in example.unlearned:
                yield self.sample(Example(example.place, before, message["content"]))

    def _plain(self, example: Example) -> Sample:
        """Text as it stands, between the special tokens that the tokenizer puts around a text."""
        ids = list(self._tokenizer.encode(example.answer))
        if ids[:2] == [self._tokenizer.bos_token_id] * 2:  # the text brought its own
            del ids[0]
        if ids[-1:] != [self._eos]:
            ids.append(self._eos)
        return Sample(tuple(ids), 1, example.place)

    @property
    def _eos(self) -> int:
        return int(self._tokenizer.eos_token_id)

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))


def render(
    examples: Sequence[Example], renderer: Renderer, loss: Loss = "answer"
) -> tuple[Sample, ...]:
    """Samples of whatever length. Raises `DataError` naming every row the template refuses."""
    samples: list[Sample] = []
    problems = []
    for example in examples:
        try:
            samples += renderer.samples(example, loss)
        except TemplateFailed as error:
            problems.append(f"{example.place}: {error.message}")
    if problems:
        raise DataError(problems)
    return tuple(samples)


def render_samples(
    examples: Sequence[Example], renderer: Renderer, recipe: Recipe
) -> tuple[Sample, ...]:
    """Samples of at most `train.max_length` tokens each.

    Raises `DataError` naming every row the template refuses, and, with `too_long: error`, every
    row that is too long.
    """
    samples = render(examples, renderer, recipe.data.loss)
    return fit(samples, recipe.train.max_length, recipe.data.too_long)
