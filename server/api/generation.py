"""From a Job to its HTTP answer: whole, or streamed as it is made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any, Protocol

import anyio
from sse_starlette.sse import EventSourceResponse
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from server.canary.tally import Answered, Tally
from server.engine.request import GenerationDelta
from server.errors import QueueFull, ServingError, Unavailable
from server.metrics import Metrics
from server.settings import ApiSettings

from .answers import Answer, Usage, best, check_ending, usage
from .delta_stream import Deltas, DeltaStream
from .disconnect import ClientGone, while_connected
from .job import Job
from .ports import Engine
from .token_meter import TokenMeter

CLIENT_CLOSED = 499  # nobody reads it; the access log does


class AnswerFormat(Protocol):
    """How one endpoint writes its answers."""

    @property
    def ending(self) -> bytes:
        """What a stream ends with, after its last event."""
        ...

    async def whole(self, answers: list[Answer], usage: Usage) -> dict[str, Any]: ...

    def opening(self) -> list[dict[str, Any]]:
        """Events before any token."""
        ...

    def chunks(self, index: int, delta: GenerationDelta) -> list[dict[str, Any]]: ...

    async def closing(self, usage: Usage) -> list[dict[str, Any]]:
        """Events after the last token."""
        ...

    def encode(self, event: dict[str, Any]) -> bytes: ...


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
        request.state.adapter_label = job.model.label
        begun = [asyncio.Event() for _ in job.sequences]
        stream = DeltaStream([self._run(request, job, index, begun) for index in range(len(begun))])
        try:
            if job.body.stream:
                return await self._stream(request, stream, job, form)
            answers = await while_connected(request.receive, _collect(stream, job))
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
        return _StreamedAnswer(
            _events(stream, job, form),
            owned=stream,
            headers=job.model.headers,
            settings=self._settings,
        )

    async def _run(
        self, request: Request, job: Job, index: int, begun: list[asyncio.Event]
    ) -> Deltas:
        """One sequence's deltas, timed.

        Further answers to a prompt begin when the first has: then the prefix cache has the prompt.
        """
        leader = job.leader_of(index)
        if leader != index:
            await begun[leader].wait()
        deltas = self._engine.generate(job.sequences[index])
        num_tokens, first_at, last_at = 0, 0.0, 0.0
        reason, failed = "abort", False
        try:
            async for delta in deltas:
                last_at = time.perf_counter()
                if num_tokens == 0 and delta.token_ids:
                    first_at = last_at
                    self._metrics.time_to_first_token.observe(first_at - job.arrived)
                num_tokens += len(delta.token_ids)
                self._meter.add(job.model.label, len(delta.token_ids))
                reason = delta.finish_reason or reason
                check_ending(delta)
                begun[index].set()
                yield _without_text(delta) if job.body.completion_limit == 0 else delta
        except Exception as error:
            failed = _is_our_failure(error)
            raise
        finally:
            begun[index].set()
            await deltas.aclose()
            self._metrics.finished.labels(reason=reason).inc()
            if reason in ("stop", "length"):
                self._metrics.generation_seconds.observe(last_at - job.arrived)
            if num_tokens > 1:
                per_token = (last_at - first_at) / (num_tokens - 1)
                self._metrics.time_per_output_token.observe(per_token)
            is_whole = reason in ("stop", "length")
            if job.model.arm is not None and (is_whole or failed or _is_late(request)):
                answered = Answered(
                    failed=not is_whole,
                    ttft=first_at - job.arrived if num_tokens else None,
                    per_token=per_token if num_tokens > 1 else None,
                )
                self._tally.note(job.model.arm, answered)


def _is_late(request: Request) -> bool:
    """Whether the server's time limit ended the request, and not its client."""
    deadline = getattr(request.state, "deadline", None)
    return isinstance(deadline, anyio.CancelScope) and deadline.cancel_called


def _is_our_failure(error: Exception) -> bool:
    """Whether an answer's version is to blame: not for a full queue, nor for a wrong request."""
    if isinstance(error, QueueFull | Unavailable):
        return False
    return not isinstance(error, ServingError) or error.status >= 500


class _StreamedAnswer(EventSourceResponse):
    """Closes the sequences behind it, even when the client left before the first event."""

    def __init__(
        self,
        content: AsyncIterator[bytes],
        *,
        owned: DeltaStream,
        headers: dict[str, str],
        settings: ApiSettings,
    ) -> None:
        super().__init__(
            content,
            headers=headers,
            ping=settings.ping_interval,
            sep="\n",
            shutdown_grace_period=settings.drain_timeout,
        )
        self._owned = owned

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._owned.aclose()


async def _collect(stream: DeltaStream, job: Job) -> list[Answer]:
    answers = [Answer() for _ in job.sequences]
    await stream.begin(patience=0)
    async for index, delta in stream:
        answers[index].add(delta)
    return answers


async def _events(stream: DeltaStream, job: Job, form: AnswerFormat) -> AsyncGenerator[bytes, None]:
    answers = [Answer() for _ in job.sequences]
    for event in form.opening():
        yield form.encode(event)
    async for index, delta in stream:
        answers[index].count(delta)
        for event in form.chunks(index, delta):
            yield form.encode(event)
    for event in await form.closing(_counted(answers, job)):
        yield form.encode(event)
    if form.ending:
        yield form.ending


def _without_text(delta: GenerationDelta) -> GenerationDelta:
    """What is left of the one token that the engine makes where no token was asked for."""
    return replace(
        delta,
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
