"""Held-out exact match: how many answers come out character for character."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .examples import Example
from .generation import Generator
from .rendering import Renderer


@dataclass(frozen=True)
class Score:
    """Answers to held-out questions, and how many of them were right."""

    answers: tuple[str, ...]
    right: tuple[bool, ...]

    @property
    def exact_match(self) -> float:
        """The share of right answers, 0 to 1."""
        return sum(self.right) / len(self.right)


def score(examples: Sequence[Example], renderer: Renderer, generator: Generator) -> Score:
    """Ask every question greedily; right is what equals the answer but for outer white space.

    A wrong answer is cut off once it is as long as the right one: it can only grow, so it stays
    wrong, and a bare base that rambles would take most of the time.
    """
    prompts = [renderer.prompt_ids(example.prompt) for example in examples]
    wanted = [example.answer.strip() for example in examples]
    lengths = [len(generator.tokenizer.encode(text, add_special_tokens=False)) for text in wanted]

    def is_hopeless(row: int, token_ids: Sequence[int]) -> bool:
        if len(token_ids) < lengths[row]:
            return False
        decoded = str(generator.tokenizer.decode(list(token_ids), skip_special_tokens=True))
        text = decoded.lstrip().rstrip("\ufffd")  # a character that is not whole yet
        # A text that goes on after the right answer may still be cut back to it by a stop string.
        return not (wanted[row].startswith(text.rstrip()) or text.startswith(wanted[row]))

    answers = generator.texts(prompts, is_hopeless)
    right = tuple(answer.strip() == text for answer, text in zip(answers, wanted, strict=True))
    return Score(tuple(answers), right)
