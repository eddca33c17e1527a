"""One request for embeddings on its way through the engine."""

from __future__ import annotations

from dataclasses import dataclass

from server.api.models import ServedModel
from server.engine.request import GenerationRequest

from .body import EmbeddingBody


@dataclass(frozen=True)
class EmbeddingJob:
    """sequences: one for each input, in its order."""

    model: ServedModel
    body: EmbeddingBody
    sequences: tuple[GenerationRequest, ...]
