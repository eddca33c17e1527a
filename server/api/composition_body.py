"""`adapters` in a body: versions to add up, each with a weight."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from . import limits


class WeightedName(BaseModel):
    """An adapter as `model` may name it, and what its update is multiplied by."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    name: Annotated[str, StringConstraints(min_length=1, max_length=limits.MAX_NAME)]
    scale: float = Field(default=1.0, ge=-limits.MAX_SCALE, le=limits.MAX_SCALE)


WeightedNames = Annotated[list[WeightedName], Field(max_length=limits.MAX_ADAPTERS)]
