"""How a request for embeddings went: for its line in the log, and for its trace if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from registry.tracing import Span
from server.api.errors import as_serving_error
from server.engine.request import GenerationDelta

from .job import EmbeddingJob


class EmbeddingRecord:
    """Inputs and vectors are never written down."""

    def __init__(self, job: EmbeddingJob, parent: Span) -> None:
        self._job = job
        self._results: Sequence[GenerationDelta] = ()
        self._span = parent.begin(
            f"embeddings {job.model.name}",
            attributes={
                "gen_ai.operation.name": "embeddings",
                "gen_ai.provider.name": "hatstand",
                "gen_ai.request.model": job.model.name,
                "gen_ai.response.model": job.model.label,
            },
        )

    def end(self, results: Sequence[GenerationDelta]) -> None:
        """Every vector is there."""
        self._results = results
        self._span.add({"gen_ai.usage.input_tokens": self._count("num_prompt_tokens")})
        self._span.end()

    def fail(self, error: BaseException) -> None:
        if isinstance(error, Exception):
            refusal = as_serving_error(error)
            self._span.fail(refusal.code, refusal.message)
        self._span.end()

    def fields(self) -> dict[str, Any]:
        """What the log says of it."""
        return {
            "model": self._job.model.name,
            "adapter": self._job.model.label,
            "digest": self._job.model.digest,
            "prompt_tokens": self._count("num_prompt_tokens"),
            "cached_tokens": self._count("num_cached_tokens"),
        }

    def _count(self, name: str) -> int:
        return sum(getattr(result, name) for result in self._results)
