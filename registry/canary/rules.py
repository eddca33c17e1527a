"""The rules of a canary: how its share grows, and what ends it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from registry.errors import InvalidRequest
from registry.pages import MetricCondition
from registry.validation import parse_model

Percent = Annotated[int, Field(ge=1, le=100)]
Seconds = Annotated[float, Field(gt=0)]


class Rules(BaseModel):
    """When a canary gets more requests, and when it gets none any more; None switches a rule off.

    A step counts only its own requests. It is over after `step_seconds` (`bake_seconds` for the
    last one) with at least `min_requests` answered by the canary and every rule kept; after the
    last step the alias points at the canary's version. A rule that is broken ends the canary at
    once. The percentiles are of the requests of one step, in seconds; `max_slowdown` compares them
    with the other version's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: tuple[Percent, ...] = Field(default=(10, 25, 50, 100), min_length=1, max_length=20)
    step_seconds: float = Field(default=300.0, ge=0)
    bake_seconds: float = Field(default=600.0, ge=0)
    min_requests: int = Field(default=50, ge=1)
    max_error_rate: float | None = Field(default=0.05, ge=0, le=1)
    max_ttft_p95: Seconds | None = None
    max_inter_token_p95: Seconds | None = None
    max_slowdown: float | None = Field(default=None, ge=1)
    metrics: tuple[str, ...] = Field(default=(), max_length=32)  # "exact_match>=0.9"
    is_automatic: bool = True  # False: rules only end it, somebody advances it

    @field_validator("steps")
    @classmethod
    def _rises(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if any(after <= before for before, after in itertools.pairwise(steps)):
            raise ValueError("must rise from step to step")
        return steps

    @field_validator("metrics")
    @classmethod
    def _can_be_read(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        for text in metrics:
            MetricCondition.parse(text)
        return metrics

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Rules:
        """Rules from JSON; raises `InvalidRequest` naming the key."""
        return parse_model(cls, values, source="rules", error=InvalidRequest)

    @property
    def conditions(self) -> list[MetricCondition]:
        """What the version's evaluations must say."""
        return [MetricCondition.parse(text) for text in self.metrics]

    def seconds_of(self, step: int) -> float:
        """How long a step lasts at least."""
        return self.bake_seconds if step == len(self.steps) - 1 else self.step_seconds
