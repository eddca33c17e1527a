"""From a Job to its HTTP answer: whole, or streamed as it is made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from registry.tracing import current_span
from server.canary.tally import Answered, Tally
from server.engine.request import GenerationDelta
from server.errors import QueueFull, ServingError, Unavailable
from server.metrics import Metrics
from server.settings import ApiSettings

from .answers import Answer, Usage, best, check_ending, usage
from .delta_stream import Deltas, DeltaStream
from .disconnect import ClientGone, while_connected
from .event_stream import EventStream
from .job import Job
from .job_record import JobRecord, SequenceRecord
from .ports import Engine
from .token_meter import TokenMeter

CLIENT_CLOSED = 499  # nobody reads it; the access log does


class AnswerFormat(Protocol):
    """How one endpoint writes its answers: as JSON, or as encoded events."""

    async def whole(self, answers: list[Answer], usage: Usage) -> Mapping[str, Any]: ...

    def opening(self) -> bytes:
        """Events before any token; often none."""
        ...

    def chunks(self, index: int, delta: GenerationDelta) -> bytes:
        """The events that one sequence's gain makes; none where there is nothing to show yet."""
        ...

    async def closing(self, usage: Usage) -> bytes:
        """Events after the last token, and whatever a stream ends with."""
        ...


class Generation:
    """Runs Jobs on the engine and answers with what comes out."""

    def __init__(
        self,
        *,
        engine: Engine,
        metrics: Metrics,
        meter: TokenMeter,
        tally: Tally,
        settings: ApiSettings,
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._meter = meter
        self._tally = tally
        self._settings = settings

    async def respond(self, request: Request, job: Job, form: AnswerFormat) -> Response:
        """The answer to `job` in the form of its endpoint. The sequences end with the request."""
        request.state.model_headers = job.model.headers
        request.state.job_record = record = JobRecord(job, current_span())
        begun = [asyncio.Event() for _ in job.sequences]
        running = [self._run(request, job, index, begun, record) for index in range(len(begun))]
        stream = DeltaStream(running, ended=record.end)
        try:
            if job.body.stream:
                return await self._stream(request, stream, job, form)
            answers = await while_connected(request.receive, _collect(stream, job))
            await stream.aclose()
        except ClientGone:
            await stream.aclose()
            return Response(status_code=CLIENT_CLOSED)
        except BaseException:
            await stream.aclose()
            raise
        body = await form.whole(_given(answers, job), _counted(answers, job))
        return JSONResponse(body, headers=job.model.headers)

    async def _stream(
        self, request: Request, stream: DeltaStream, job: Job, form: AnswerFormat
    ) -> Response:
        # Errors at admission still become a status. A slow start does not hold the headers back
        # for ever: past one ping interval the stream opens, and pings keep it alive.
        await while_connected(request.receive, stream.begin(self._settings.ping_interval))
        return EventStream(
            _events(stream, job, form),
            headers=job.model.headers,
            ping_interval=self._settings.ping_interval,
            ended=stream.aclose,
        )

    async def _run(
        self,
        request: Request,
        job: Job,
        index: int,
        begun: list[asyncio.Event],
        record: JobRecord,
    ) -> Deltas:
        """One sequence's deltas, timed.

        Further answers to a prompt begin when the first has: then the prefix cache has the prompt.
        """
        leader = job.leader_of(index)
        if leader != index:
            await begun[leader].wait()
        deltas = self._engine.generate(job.sequences[index])
        sequence = SequenceRecord(began=time.monotonic())
        label, wants_none = job.model.counted_as, job.body.completion_limit == 0
        try:
            async for delta in deltas:
                if sequence.note(delta):
                    self._metrics.time_to_first_token.observe(sequence.first_at - job.arrived)
                self._meter.add(label, len(delta.token_ids))
                check_ending(delta)
                begun[index].set()
                yield _without_text(delta) if wants_none else delta
        except Exception as error:
            sequence.error = error
            raise
        finally:
            begun[index].set()
            await deltas.aclose()
            self._count(job, sequence)
            self._judge(request, job, sequence)
            record.end_sequence(index, sequence)

    def _count(self, job: Job, sequence: SequenceRecord) -> None:
        self._metrics.finished.labels(reason=sequence.reason).inc()
        if sequence.is_whole:
            self._metrics.generation_seconds.observe(sequence.last_at - job.arrived)
        if sequence.per_token is not None:
            self._metrics.time_per_output_token.observe(sequence.per_token)

    def _judge(self, request: Request, job: Job, sequence: SequenceRecord) -> None:
        """What a canary's tally learns of a sequence: not that its client gave it up."""
        failed = sequence.error is not None and is_our_failure(sequence.error)
        if job.model.arm is None or not (sequence.is_whole or failed or _is_late(request)):
            return
        answered = Answered(
            failed=not sequence.is_whole,
            ttft=sequence.first_at - job.arrived if sequence.num_tokens else None,
            per_token=sequence.per_token,
        )
        self._tally.note(job.model.arm, answered)


def _is_late(request: Request) -> bool:
    """Whether the server's time limit ended the request, and not its client."""
    deadline = getattr(request.state, "deadline", None)
    return isinstance(deadline, anyio.CancelScope) and deadline.cancel_called


def is_our_failure(error: Exception) -> bool:
    """Whether an answer's version is to blame: not for a full queue, nor for a wrong request."""
    if isinstance(error, QueueFull | Unavailable):
        return False
    return not isinstance(error, ServingError) or error.status >= 500


async def _collect(stream: DeltaStream, job: Job) -> list[Answer]:
    answers = [Answer() for _ in job.sequences]
    await stream.begin(patience=0)
    async for index, delta in stream:
        answers[index].add(delta)
    return answers


async def _events(stream: DeltaStream, job: Job, form: AnswerFormat) -> AsyncGenerator[bytes, None]:
    answers = [Answer() for _ in job.sequences]
    if opening := form.opening():
        yield opening
    async for index, delta in stream:
        answers[index].count(delta)
        if chunks := form.chunks(index, delta):
            yield chunks
    yield await form.closing(_counted(answers, job))


def _without_text(delta: GenerationDelta) -> GenerationDelta:
    """What is left of the one token that the engine makes where no token was asked for."""
    return delta._replace(
        text="",
        token_ids=(),
        logprobs=(),
        finish_reason="length",
        stop_reason=None,
        num_completion_tokens=0,
    )


def _given(answers: list[Answer], job: Job) -> list[Answer]:
    return best(answers, job.body.num_candidates, job.body.num_choices)


def _counted(answers: list[Answer], job: Job) -> Usage:
    return usage(answers, job.body.num_candidates)
