"""The answer of POST /v1/embeddings."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict


class Embedding(TypedDict):
    """One input's vector: numbers, or little-endian fp32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(TypedDict):
    """The inputs' tokens; nothing is generated."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsHead(TypedDict):
    """What all vectors have in common."""

    object: Literal["list"]
    model: str
    system_fingerprint: str
    usage: EmbeddingUsage


class Embeddings(EmbeddingsHead):
    """A vector for each input, in their order."""

    data: list[Embedding]
