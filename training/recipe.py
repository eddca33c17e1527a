"""The recipe: everything one training run depends on, typed, frozen, checked at the edge.

A section is a model; a key that no model knows is an error (`reading.py` turns it into one with
line and nearest key). Paths in a recipe are relative to the folder of the file that has them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from registry.errors import InvalidHat
from registry.hats import MAX_STOP_LENGTH, MAX_STOPS, Hat, Sampling

from .data_settings import DataSettings
from .sections import Count, NotNegative, Positive, Section, Text
from .train_settings import TrainSettings

__all__ = [
    "DataSettings",
    "EvaluateSettings",
    "ForgettingSettings",
    "HatSettings",
    "LoadSettings",
    "LoraSettings",
    "Recipe",
    "TrackingSettings",
    "TrainSettings",
    "WandbSettings",
]


class LoadSettings(Section):
    """What the base is trained in. What it is served in is another matter (`serve_on`)."""

    quantization: Literal["nf4", "int8", "gptq", "none"] = "nf4"
    """`nf4` is QLoRA, `int8` LLM.int8(), `none` 16 bit; `gptq` takes a checkpoint made with it."""
    double_quantization: bool = True
    """NF4's block scales in 8 bits too: 0.127 instead of 0.5 bits a parameter."""
    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """What NF4 weights are multiplied in; `auto` is bfloat16 where the hardware has it."""


StopText = Annotated[str, Field(min_length=1, max_length=MAX_STOP_LENGTH)]


class HatSettings(Section):
    """What travels with the adapter beside its weights; see `registry.hats.Hat`."""

    system_prompt: str | None = None
    chat_template: str | None = None
    """Jinja; left out: the base's own."""
    chat_template_file: Path | None = None
    stop: Annotated[tuple[StopText, ...], Field(max_length=MAX_STOPS)] = ()
    sampling: Sampling = Sampling()
    response_schema: dict[str, Any] | None = None  # a JSON Schema that every answer follows

    @field_validator("sampling")
    @classmethod
    def _can_be_pushed(cls, sampling: Sampling) -> Sampling:
        try:
            sampling.check_limits()
        except InvalidHat as refusal:
            raise ValueError(refusal.message) from None
        return sampling

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
            response_schema=self.response_schema,
        )


class LoraSettings(Section):
    """The adapter's shape (LoRA: arXiv 2106.09685; rsLoRA: arXiv 2312.03732).

    The update of a projection is scaled by alpha / r, with `rslora` by alpha / sqrt(r).
    `rank_pattern` and `alpha_pattern` map a module name (or a regular expression for one) to its
    own value.
    """

    r: Count = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)] = (
        "all-linear"
    )
    rslora: bool = False
    rank_pattern: dict[str, Count] = Field(default_factory=dict)
    alpha_pattern: dict[str, Positive] = Field(default_factory=dict)
    init: Literal["default", "gaussian", "pissa", "olora"] = "default"
    """Where the factors begin. PiSSA and OLoRA begin at parts of the weights, which the saved
    adapter subtracts again: its rank is twice `r`, and it fits the untouched base."""
    dora: bool = False
    """Train the length of each output apart from its direction (DoRA: arXiv 2402.09353). No server
    can hot-load that, so what is saved is the nearest plain adapter of rank `extract_rank`."""
    extract_rank: Count | None = None
    """The rank of an adapter made from other weights: with `dora` (left out: twice `r`) and with
    `method: full` (left out: `r`)."""


class EvaluateSettings(Section):
    """The exact-match check on held-out rows, before and after."""

    rows: Annotated[int, Field(ge=0)] = 32
    """At most this many; 0 switches the check off."""
    batch_size: Count = 16
    max_tokens: Count | None = None
    """Left out: the hat's own limit, else 128."""


class ForgettingSettings(Section):
    """What the adapter may cost on text that has nothing to do with its task."""

    data: Path | None = None
    """A text file; left out: the general text that comes along."""
    budget: NotNegative = 0.2
    """By what share the perplexity of that text may rise."""
    over_budget: Literal["warn", "fail"] = "warn"
    """`fail` keeps the adapter folder, and ends the run with an error before anything is pushed."""


class WandbSettings(Section):
    """Weights & Biases."""

    project: str | None = None
    entity: str | None = None
    watch: bool = False
    log_model: bool = False


class TrackingSettings(Section):
    """Where a run's figures go while it runs."""

    report_to: tuple[Literal["jsonl", "tensorboard", "wandb"], ...] = ("jsonl", "tensorboard")
    """`jsonl` is `events.jsonl`, a line an event; `wandb` needs the extra of that name."""
    callbacks: tuple[Text, ...] = ()
    """Other trackers: dotted paths to a `transformers.TrainerCallback`, or to what makes one."""
    folder: Path | None = None
    """Left out: `runs/NAME` under HATSTAND_HOME, NAME being the output's."""
    every: Count = 1
    """Steps between two entries."""
    wandb: WandbSettings = WandbSettings()


class Recipe(Section):
    """One training run: base and rows in, an adapter folder out."""

    base: Text
    """A pulled base's name, a folder, or a Hub id that was pulled."""
    serve_on: Text | None = None
    """The base that serves the adapter, where it is another checkpoint of the same model."""
    output: Path
    """The adapter folder."""
    description: str = ""
    """One sentence for the model card."""
    method: Literal["lora", "full"] = "lora"
    """`full` trains every weight and saves the adapter that comes nearest (by SVD)."""
    load: LoadSettings = LoadSettings()
    data: DataSettings
    hat: HatSettings = HatSettings()
    lora: LoraSettings = LoraSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    forgetting: ForgettingSettings | None = None
    """Whether to measure what the base's general knowledge loses; `{}` takes all defaults."""
    tracking: TrackingSettings = TrackingSettings()
    translated: tuple[str, ...] = ()
    """Written by the reader: what it took from other programs' spellings."""

    @property
    def max_answer_tokens(self) -> int:
        """How many tokens a held-out answer may take."""
        return self.evaluate.max_tokens or self.hat.sampling.max_tokens or 128

    @property
    def saved_rank(self) -> int:
        """The rank `r` of the adapter that is saved, which is not always the trained one."""
        lora = self.lora
        if self.method == "full":
            return lora.extract_rank or lora.r
        if lora.dora:
            return lora.extract_rank or 2 * lora.r
        return 2 * lora.r if lora.init in ("pissa", "olora") else lora.r

    @model_validator(mode="after")
    def _parts_fit(self) -> Recipe:
        lora, load = self.lora, self.load
        if self.method == "full" and load.quantization != "none":
            raise ValueError(
                "`method: full` trains the weights themselves: set `load.quantization: none`"
            )
        if lora.dora and lora.init in ("pissa", "olora"):
            raise ValueError("`lora.dora` and `lora.init: pissa` or `olora` do not go together")
        if self.train.deepspeed and True in (self.train.fused, self.train.unpadded):
            raise ValueError(
                "`train.fused` and `train.unpadded` need whole weights in each process, which "
                "DeepSpeed divides: leave them out"
            )
        if load.quantization == "gptq" and self.serve_on is None:
            raise ValueError(
                "a GPTQ checkpoint is not what is served: name the base that is in `serve_on`"
            )
        if (self.train.best or self.train.early_stop) and self.data.validation is None:
            raise ValueError(
                "`train.best` and `train.early_stop` go by the validation loss: set "
                "`data.validation`"
            )
        return self
