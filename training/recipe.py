"""The recipe: everything one training run depends on, typed, frozen, checked at the edge.

A section is a model; a key that no model knows is an error (`reading.py` turns it into one with
line and nearest key). Paths in a recipe are relative to the recipe's own folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from registry.hats import Hat, Sampling


def _as_tuple(value: Any) -> Any:
    """One path is a list of one."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_as_tuple)]
Column = Annotated[str, Field(min_length=1)]

Scheduler = Literal["linear", "cosine", "constant", "constant_with_warmup", "polynomial"]
Optimizer = Literal[
    "adamw", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "sgd", "adafactor"
]


class Section(BaseModel):
    """What all sections share: frozen, no unknown keys, no NaN, no silent conversion."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, strict=True, validate_default=True
    )


class DataSettings(Section):
    """Which rows to train on and how a row becomes a conversation.

    `format` says what columns a row has:
    - messages: `messages`, a list of {role, content} that ends with the assistant's answer
    - alpaca: `instruction`, `input` (may be missing or empty), `output`
    - instruction: `prompt_column` and `answer_column`
    - template: `prompt` and `answer` are texts with {column} in them
    """

    train: Annotated[Paths, Field(min_length=1)]
    # Files, or how many rows (a number, or a share below 1) to keep off `train`.
    validation: Annotated[tuple[Path, ...] | Count | Share | None, BeforeValidator(_as_tuple)] = (
        None
    )
    heldout: Paths = ()  # rows for exact match, before and after
    format: Literal["messages", "alpaca", "instruction", "template"] = "messages"
    prompt_column: Column = "instruction"
    answer_column: Column = "output"
    prompt: str | None = None
    answer: str | None = None
    seed: int = 0
    # What to do with a row of more than `train.max_length` tokens: refuse the recipe, leave the
    # row out, or cut it. Cutting left loses the prompt's start, cutting right the answer's end.
    too_long: Literal["error", "drop", "left", "right"] = "error"

    @model_validator(mode="after")
    def _template_has_both_halves(self) -> DataSettings:
        if self.format == "template" and (self.prompt is None or self.answer is None):
            raise ValueError("format `template` needs both `prompt` and `answer`")
        return self


class HatSettings(Section):
    """What travels with the adapter beside its weights; see `registry.hats.Hat`."""

    system_prompt: str | None = None
    chat_template: str | None = None  # None: the base's own
    chat_template_file: Path | None = None
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    sampling: Sampling = Sampling()

    @model_validator(mode="after")
    def _one_template(self) -> HatSettings:
        if self.chat_template is not None and self.chat_template_file is not None:
            raise ValueError("give `chat_template` or `chat_template_file`, not both")
        return self

    def hat(self) -> Hat:
        """The hat as it is stored; `chat_template_file` has been read by then."""
        return Hat(
            system_prompt=self.system_prompt,
            chat_template=self.chat_template,
            stop=self.stop,
            sampling=self.sampling,
        )


class LoraSettings(Section):
    """The adapter's shape (LoRA: arXiv 2106.09685; rsLoRA: arXiv 2312.03732).

    The update of a projection is scaled by alpha / r, with `rslora` by alpha / sqrt(r).
    `rank_pattern` and `alpha_pattern` map a module name (or a regular expression for one) to its
    own value.
    """

    r: Count = 16
    alpha: Annotated[float, Field(gt=0)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = (
        "all-linear"
    )
    rslora: bool = False
    rank_pattern: dict[str, Count] = {}
    alpha_pattern: dict[str, Annotated[float, Field(gt=0)]] = {}


class TrainSettings(Section):
    """How long, how fast and with what to train."""

    epochs: Annotated[float, Field(gt=0)] = 1.0
    max_steps: Count | None = None  # optimizer steps; wins over `epochs`
    batch_size: Count = 8  # rows per forward pass
    gradient_accumulation: Count = 1  # forward passes per optimizer step
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    scheduler: Scheduler = "cosine"
    warmup: Annotated[float, Field(ge=0)] = 0.05  # below 1 a share of all steps, else steps
    optimizer: Optimizer = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0  # 0 switches clipping off
    max_length: Annotated[int, Field(ge=8)] = 1024  # tokens of prompt and answer together
    group_by_length: bool = True  # batches of similar lengths waste less on padding
    gradient_checkpointing: bool = False  # saves memory, costs about a third more time
    eval_every: Count | None = None  # steps between validation passes; None: four in all
    seed: int = 0


class EvaluateSettings(Section):
    """The exact-match check on held-out rows, before and after."""

    rows: Annotated[int, Field(ge=0)] = 32  # at most this many; 0 switches the check off
    batch_size: Count = 16
    max_tokens: Count | None = None  # None: the hat's own limit, else 128


class Recipe(Section):
    """One training run: base and rows in, an adapter folder out."""

    base: Annotated[str, Field(min_length=1)]
    output: Path
    description: str = ""  # one sentence for the model card
    data: DataSettings
    hat: HatSettings = HatSettings()
    lora: LoraSettings = LoraSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()

    @property
    def max_answer_tokens(self) -> int:
        """How many tokens a held-out answer may take."""
        return self.evaluate.max_tokens or self.hat.sampling.max_tokens or 128
