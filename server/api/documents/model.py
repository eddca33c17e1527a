"""The answers of GET /v1/models and GET /v1/models/{id}."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict


class ModelCard(TypedDict):
    """OpenAI's model object, with vLLM's `root` and `parent` and our digest."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None
    digest: str
    max_model_len: int


class ModelCards(TypedDict):
    """All that `model` may name."""

    object: Literal["list"]
    data: list[ModelCard]
