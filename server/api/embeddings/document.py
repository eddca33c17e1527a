"""The answer to a request for embeddings, in OpenAI's shape."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct
from collections.abc import Sequence

from server.api.documents.embedding import Embedding, EmbeddingsHead
from server.engine.request import GenerationDelta

from .job import EmbeddingJob


async def render(job: EmbeddingJob, results: Sequence[GenerationDelta]) -> bytes:
    """JSON, vector by vector: thousands of them at once would hold the event loop up."""
    vectors = []
    for index, result in enumerate(results):
        vector = shortened(result.embedding, job.body.dimensions)
        is_packed = job.body.encoding_format == "base64"
        written = packed(vector) if is_packed else list(vector)
        entry: Embedding = {"object": "embedding", "index": index, "embedding": written}
        vectors.append(json.dumps(entry, separators=(",", ":")))
        await asyncio.sleep(0)
    num_tokens = sum(result.num_prompt_tokens for result in results)
    rest: EmbeddingsHead = {
        "object": "list",
        "model": job.model.name,
        "system_fingerprint": job.model.system_fingerprint,
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }
    return f'{{"data":[{",".join(vectors)}],{json.dumps(rest)[1:]}'.encode()


def shortened(vector: tuple[float, ...], dimensions: int | None) -> tuple[float, ...]:
    """The first dimensions, brought back to length 1, as OpenAI shortens its own."""
    if dimensions is None or dimensions == len(vector):
        return vector
    first = vector[:dimensions]
    length = math.hypot(*first) or 1.0
    return tuple(value / length for value in first)


def packed(vector: tuple[float, ...]) -> str:
    """Little-endian fp32, in base64."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
