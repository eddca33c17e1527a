"""How one Job went: for its line in the log, and for its trace if there is one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from registry.tracing import Attributes, Span
from server.engine.composition import is_composed
from server.engine.request import FinishReason, GenerationDelta, SequenceTimes

from .errors import as_serving_error
from .job import Job


@dataclass
class SequenceRecord:
    """What one sequence came to; `time.monotonic()` seconds, 0 where it did not come so far."""

    began: float
    times: SequenceTimes | None = None
    first_at: float = 0.0
    last_at: float = 0.0
    num_tokens: int = 0
    last: GenerationDelta | None = None
    error: Exception | None = None

    def note(self, delta: GenerationDelta) -> bool:
        """One more delta has come. True if it has the first token."""
        self.last, self.last_at = delta, time.monotonic()
        is_first = self.num_tokens == 0 and bool(delta.token_ids)
        if is_first:
            self.first_at, self.times = self.last_at, delta.times
        self.num_tokens += len(delta.token_ids)
        return is_first

    @property
    def reason(self) -> FinishReason:
        """Why it ended; "abort" while it has not."""
        return (self.last and self.last.finish_reason) or "abort"

    @property
    def is_whole(self) -> bool:
        return self.reason in ("stop", "length")

    @property
    def per_token(self) -> float | None:
        """Mean seconds between its tokens after the first; None where there are no two."""
        if self.num_tokens < 2:
            return None
        return (self.last_at - self.first_at) / (self.num_tokens - 1)


class JobRecord:
    """A Job's sequences as they ended, and the span that they are parts of.

    The names are those of OpenTelemetry's conventions for generative AI (1.41), and `hatstand.*`
    where those have none. Prompts and answers are never written down.
    """

    def __init__(self, job: Job, parent: Span) -> None:
        self._job = job
        self._ended: dict[int, SequenceRecord] = {}
        operation = "chat" if job.id.startswith("chatcmpl-") else "text_completion"
        # An unsampled request is not worth putting attributes together for.
        asked = _asked(job, operation) if parent.is_recorded else {}
        self._span = parent.begin(f"{operation} {job.model.name}", attributes=asked)

    def end_sequence(self, index: int, sequence: SequenceRecord) -> None:
        """A sequence has ended, well or not."""
        self._ended[index] = sequence
        if self._span.is_recorded:
            _tell(self._span, index, sequence)

    def end(self) -> None:
        """The answer is out, or nobody waits for it any longer."""
        if not self._span.is_recorded:
            return
        self._span.add(self._outcome())
        for sequence in self._ended.values():
            if sequence.error is not None:
                _fail(self._span, sequence.error)
        self._span.end()

    def fields(self) -> dict[str, Any]:
        """What the log says of it: no text of anybody's."""
        model, leaders = self._job.model, self._leaders()
        first = min((each.first_at for each in self._ended.values() if each.first_at), default=0.0)
        waits = [each.times.admitted - each.times.arrived for each in leaders if each.times]
        return {
            "model": model.name,
            "adapter": model.label,
            "digest": model.digest,
            "prompt_tokens": _sum(leaders, "num_prompt_tokens"),
            "cached_tokens": _sum(leaders, "num_cached_tokens"),
            "completion_tokens": _sum(self._ended.values(), "num_completion_tokens"),
            "finish_reasons": self._reasons(),
            "queue_seconds": round(max(waits, default=0.0), 6),
            "ttft_seconds": round(first - self._job.arrived, 6) if first else None,
        }

    def _outcome(self) -> Attributes:
        fields = self.fields()
        first = {"gen_ai.response.time_to_first_chunk": fields["ttft_seconds"]}
        return {
            "gen_ai.response.id": self._job.id,
            "gen_ai.response.model": self._job.model.label,
            "gen_ai.response.finish_reasons": fields["finish_reasons"],
            "gen_ai.usage.input_tokens": fields["prompt_tokens"],
            "gen_ai.usage.cache_read.input_tokens": fields["cached_tokens"],
            "gen_ai.usage.output_tokens": fields["completion_tokens"],
            **({} if fields["ttft_seconds"] is None else first),
        }

    def _leaders(self) -> list[SequenceRecord]:
        """The first sequence of each prompt, which counts its tokens."""
        return [each for index, each in self._ended.items() if self._job.leader_of(index) == index]

    def _reasons(self) -> list[str]:
        return [self._ended[index].reason for index in sorted(self._ended)]


def _sum(sequences: Any, name: str) -> int:
    return sum(getattr(each.last, name) for each in sequences if each.last is not None)


def _asked(job: Job, operation: str) -> Attributes:
    model, params = job.model, job.sequences[0].params
    seed = {} if params.seed is None else {"gen_ai.request.seed": params.seed}
    choices = job.body.num_choices
    adapter = {} if model.adapter is None else _adapter(model.label, model.digest)
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "hatstand",
        "gen_ai.request.model": model.name,
        "gen_ai.request.max_tokens": params.max_tokens,
        "gen_ai.request.temperature": params.temperature,
        "gen_ai.request.top_p": params.top_p,
        "gen_ai.request.stream": bool(job.body.stream),
        **seed,
        **({} if choices == 1 else {"gen_ai.request.choice.count": choices}),
        **adapter,
    }


def _adapter(label: str, digest: str) -> dict[str, str]:
    """A composition is no version of anything, and is named by its label."""
    name, _, version = (label, "", "") if is_composed(digest) else label.rpartition("@")
    return {
        "hatstand.adapter.name": name,
        "hatstand.adapter.version": version,
        "hatstand.adapter.digest": digest,
    }


def _tell(job: Span, index: int, sequence: SequenceRecord) -> None:
    """A sequence's way as spans one behind the other: queue, prefill, decode.

    They are made at its end, when it is known how long each took: tokens cost nothing.
    """
    number = {"hatstand.sequence": index}
    times = sequence.times
    if times is None:
        waiting = job.begin("queue", at=sequence.began, attributes=number)
        _close(waiting, sequence, time.monotonic())
        return
    waiting = job.begin("queue", at=times.arrived, attributes=number)
    if times.adapter_wanted:
        waiting.begin("wait for adapter", at=times.adapter_wanted).end(times.adapter_ready)
    waiting.end(times.admitted)
    slot = {} if times.slot is None else {"hatstand.slot": times.slot}
    last = sequence.last
    cached = {"hatstand.cached_tokens": 0 if last is None else last.num_cached_tokens}
    attributes = {**number, **slot, **cached}
    job.begin("prefill", at=times.admitted, attributes=attributes).end(sequence.first_at)
    decoding = job.begin("decode", at=sequence.first_at, attributes={**number, **slot})
    decoding.event("first token", sequence.first_at)
    decoding.add({"hatstand.tokens": sequence.num_tokens, "hatstand.reason": sequence.reason})
    _close(decoding, sequence, sequence.last_at if sequence.is_whole else time.monotonic())


def _close(span: Span, sequence: SequenceRecord, at: float) -> None:
    if sequence.error is not None:
        _fail(span, sequence.error)
    span.end(at)


def _fail(span: Span, error: Exception) -> None:
    refusal = as_serving_error(error)
    span.fail(refusal.code, refusal.message)
