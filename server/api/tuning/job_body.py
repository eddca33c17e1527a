"""The body of POST /v1/fine_tuning/jobs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

FileId = Annotated[str, Field(min_length=1, max_length=64)]
LabelName = Annotated[str, Field(max_length=64)]
Label = Annotated[str, Field(max_length=512)]
Section = Literal["lora", "train", "hat", "evaluate", "forgetting"]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def _auto_or_number(value: Any) -> str:
    """Which of the two a value is judged as: a number out of bounds is to be told so."""
    return "<auto>" if value == "auto" else "<number>"


_Auto = Annotated[Literal["auto"], Tag("<auto>")]
_IsAuto = Discriminator(_auto_or_number)
Epochs = Annotated[int, Field(ge=1, le=50), Tag("<number>")]
BatchSize = Annotated[int, Field(ge=1, le=256), Tag("<number>")]
Multiplier = Annotated[float, Field(gt=0, le=1000), Tag("<number>")]


class Hyperparameters(_Part):
    """OpenAI's three. `auto`: 3 epochs, batches of 8 rows, a learning rate of 2e-4 times 1."""

    n_epochs: Annotated[_Auto | Epochs, _IsAuto] = "auto"
    batch_size: Annotated[_Auto | BatchSize, _IsAuto] = "auto"
    learning_rate_multiplier: Annotated[_Auto | Multiplier, _IsAuto] = "auto"


class Supervised(_Part):
    hyperparameters: Hyperparameters = Hyperparameters()


class Method(_Part):
    """How to train; other methods than `supervised` are not there."""

    type: Literal["supervised"]
    supervised: Supervised = Supervised()


class JobBody(_Part):
    """`recipe` is ours: sections of a recipe beyond OpenAI's three."""

    model: Annotated[str, Field(min_length=1, max_length=255)]
    training_file: FileId
    validation_file: FileId | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None  # where clients wrote them before `method`
    suffix: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metadata: Annotated[dict[LabelName, Label], Field(max_length=16)] = {}
    integrations: Annotated[list[Any], Field(max_length=0)] | None = None
    recipe: dict[Section, dict[str, Any]] = {}

    @model_validator(mode="before")
    @classmethod
    def _null_is_nothing(cls, values: Any) -> Any:
        """Clients send null for what they do not use."""
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if value is not None}

    @property
    def chosen(self) -> Hyperparameters:
        """The hyperparameters, wherever they were written."""
        if self.method is not None:
            return self.method.supervised.hyperparameters
        return self.hyperparameters or Hyperparameters()
