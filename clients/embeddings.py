"""Texts to vectors: the request and its reply, as values."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from .messages import Request
from .weighted import naming


class EmbeddingOptions(TypedDict, total=False):
    """How vectors are made; what is left out is the server's to say."""

    dimensions: int
    pooling: Literal["mean", "last"]


@dataclass(frozen=True)
class Embeddings:
    """A vector of length 1 for each text, in order. `adapter` is whose they are."""

    vectors: Sequence[Sequence[float]]
    adapter: str
    digest: str
    num_tokens: int


def embedding_request(model: str, texts: str | Sequence[str], options: EmbeddingOptions) -> Request:
    """Vectors travel packed: a quarter of the bytes."""
    given = texts if isinstance(texts, str) else list(texts)
    body = {**naming(model), "input": given, "encoding_format": "base64", **options}
    return Request("POST", "/v1/embeddings", body)


def parse_embeddings(body: Mapping[str, Any], headers: Mapping[str, str]) -> Embeddings:
    return Embeddings(
        vectors=[_unpacked(entry["embedding"]) for entry in body["data"]],
        adapter=headers.get("x-hatstand-adapter", ""),
        digest=headers.get("x-hatstand-digest", ""),
        num_tokens=body["usage"]["prompt_tokens"],
    )


def _unpacked(text: str) -> Sequence[float]:
    raw = base64.b64decode(text)
    return struct.unpack(f"<{len(raw) // 4}f", raw)
