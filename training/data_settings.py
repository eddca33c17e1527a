"""The recipe's section `data`: which rows, how they become conversations, what of them is learned.

`format` says what columns a row has:

- messages: `messages`, a list of {role, content} that ends with the assistant's answer
- alpaca: `instruction`, `input` (may be missing or empty), `output`
- instruction: `prompt_column` and `answer_column`
- template: `prompt` and `answer` are texts with {column} in them
- text: `text_column` holds it all; `pattern` finds prompt and answer in it, or without one
  the whole text is learned as it stands
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .sections import Section, Text
from .sources import Sources, SourcesOrCount

Format = Literal["messages", "alpaca", "instruction", "template", "text"]
TooLong = Literal["error", "drop", "left", "right"]
_GROUPS = {"prompt", "answer"}


class DataSettings(Section):
    """Which rows to train on and how a row becomes a conversation."""

    train: Annotated[Sources, Field(min_length=1)]
    """Files (.jsonl, .json, .csv, .parquet) or datasets of the Hub (hf://org/name@commit:split)."""
    validation: SourcesOrCount = None
    """Files, or how many rows (a number, or a share below 1) to keep off `train`."""
    heldout: Sources = ()
    """Rows that are asked before and after training."""
    format: Format = "messages"
    """What columns a row has: messages, alpaca, instruction, template or text."""
    prompt_column: Text = "instruction"
    answer_column: Text = "output"
    prompt: str | None = None
    """With format `template`: the question, with {column} where a column goes."""
    answer: str | None = None
    """With format `template`: the answer."""
    text_column: Text = "text"
    pattern: str | None = None
    """With format `text`: a regular expression for the whole of it, with the groups `prompt` and
    `answer`."""
    loss: Literal["answer", "assistant", "full"] = "answer"
    """What is learned: the last answer, all turns of the assistant, or the prompt too."""
    shuffle: bool = True
    """Whether each epoch takes the rows in a new random order (by `train.seed`)."""
    seed: int = 0
    """Of the split into training and validation rows."""
    too_long: TooLong = "error"
    """What to do with a row over `train.max_length` tokens: refuse the recipe, leave the row out,
    or cut it. Cutting left loses the prompt's start, cutting right the answer's end."""
    padding: Literal["left", "right"] = "left"
    pad_to_max_length: bool = False
    """Pad every batch to `train.max_length`: wasteful, but all batches have one shape."""

    @model_validator(mode="after")
    def _template_has_both_halves(self) -> DataSettings:
        if self.format == "template" and (self.prompt is None or self.answer is None):
            raise ValueError("format `template` needs both `prompt` and `answer`")
        return self

    @model_validator(mode="after")
    def _pattern_has_both_groups(self) -> DataSettings:
        if self.pattern is None:
            return self
        try:
            groups = re.compile(self.pattern).groupindex.keys()
        except re.error as error:
            raise ValueError(f"`pattern` is no regular expression: {error}") from error
        if not groups >= _GROUPS:
            raise ValueError("`pattern` needs the groups (?P<prompt>…) and (?P<answer>…)")
        return self
