"""What every section of a recipe shares: frozen, no unknown keys, no silent conversion."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy takes for one
Text = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A part of the recipe. A docstring under a key is what editors show for it."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        strict=True,
        validate_default=True,
        use_attribute_docstrings=True,
    )
