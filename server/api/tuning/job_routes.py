"""`/v1/fine_tuning/jobs`: made, followed, cancelled, paused, resumed."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from registry.errors import InvalidReference
from registry.references import check_name
from registry.tuning import Job, NewJob, Queue
from registry.tuning.statuses import CHECKPOINTS, FINISHED
from server.api.bodies import parse_body
from server.api.permission import may_name, owner
from server.api.ports import Base
from server.errors import InvalidRequest

from .documents import checkpoint_document, event_document, job_document, list_document
from .job_body import JobBody
from .paging import read_paging

_POLL = 0.5  # seconds between looks for new events of a stream
_LABEL = "metadata["

T = TypeVar("T")


class JobRoutes:
    """OpenAI's fine-tuning jobs over one base; a key sees those of its like."""

    def __init__(self, queue: Queue, base: Base) -> None:
        self._all = queue
        self._base = base

    @property
    def _queue(self) -> Queue:
        return self._all.of(owner())

    async def create(self, request: Request) -> Response:
        new = self._new_job(parse_body(await request.body(), JobBody))
        return _answer(await anyio.to_thread.run_sync(self._queue.jobs.add, new))

    async def index(self, request: Request) -> Response:
        """Newest first; `metadata[key]=value` narrows it down."""
        paging = read_paging(request, default=20, beside=(_LABEL,))
        labels = {
            name.removeprefix(_LABEL).removesuffix("]"): value
            for name, value in request.query_params.items()
            if name.startswith(_LABEL)
        }
        find = partial(self._queue.jobs.page, after=paging.after, limit=paging.limit, labels=labels)
        jobs, more = await anyio.to_thread.run_sync(find)
        return JSONResponse(list_document([job_document(job) for job in jobs], has_more=more))

    async def show(self, request: Request) -> Response:
        return await self._with_job(request, self._queue.jobs.get)

    async def cancel(self, request: Request) -> Response:
        return await self._with_job(request, self._queue.jobs.cancel)

    async def pause(self, request: Request) -> Response:
        return await self._with_job(request, self._queue.jobs.pause)

    async def resume(self, request: Request) -> Response:
        return await self._with_job(request, self._queue.jobs.resume)

    async def events(self, request: Request) -> Response:
        """Newest first; with `stream=true` server-sent events, oldest first, to the job's end."""
        job_id = request.path_params["job_id"]
        if request.query_params.get("stream") == "true":
            await anyio.to_thread.run_sync(self._queue.jobs.get, job_id)  # 404 before the stream
            return EventSourceResponse(_follow(self._queue, job_id, _seen(request)))
        paging = read_paging(request, default=20, beside=("stream",))
        find = partial(self._queue.records.events, job_id, after=paging.after, limit=paging.limit)
        found, more = await anyio.to_thread.run_sync(find)
        return JSONResponse(list_document([event_document(e) for e in found], has_more=more))

    async def checkpoints(self, request: Request) -> Response:
        job_id, paging = request.path_params["job_id"], read_paging(request, default=10)
        find = partial(
            self._queue.records.checkpoints, job_id, after=paging.after, limit=paging.limit
        )
        found, more = await anyio.to_thread.run_sync(find)
        data = [checkpoint_document(checkpoint, job_id) for checkpoint in found]
        return JSONResponse(list_document(data, has_more=more))

    async def _with_job(self, request: Request, act: Callable[[str], Job]) -> Response:
        return _answer(await anyio.to_thread.run_sync(act, request.path_params["job_id"]))

    def _new_job(self, body: JobBody) -> NewJob:
        if body.model != self._base.name:
            raise InvalidRequest(
                f"Only the base '{self._base.name}' can be fine-tuned here, not '{body.model}'.",
                param="model",
            )
        adapter = _adapter_name(body.suffix)
        if not may_name(adapter):
            raise InvalidRequest(
                f"This API key may not name '{adapter}': give a 'suffix' that matches its "
                "patterns.",
                param="suffix",
            )
        return NewJob(
            model=self._base.name,
            base_fingerprint=self._base.record.fingerprint,
            training_file=body.training_file,
            validation_file=body.validation_file,
            adapter=adapter,
            seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
            hyperparameters=body.chosen.model_dump(),
            recipe={str(name): values for name, values in body.recipe.items()},
            labels=body.metadata,
        )


async def _follow(queue: Queue, job_id: str, number: int) -> AsyncIterator[ServerSentEvent]:
    """Events after that number; a client that was cut off names the last one it saw."""
    while True:
        # In this order: what a finished job has to say is all written by then.
        job = await anyio.to_thread.run_sync(queue.jobs.get, job_id)
        since = partial(queue.records.events_since, job_id, number)
        for key, event in await anyio.to_thread.run_sync(since):
            number = key
            yield ServerSentEvent(json.dumps(event_document(event)), id=str(number))
        if job.status in FINISHED:
            yield ServerSentEvent("[DONE]")
            return
        await anyio.sleep(_POLL)


def _seen(request: Request) -> int:
    last = request.headers.get("last-event-id", "0")
    return int(last) if last.isdecimal() and len(last) < 16 else 0


def _answer(job: Job) -> JSONResponse:
    return JSONResponse(job_document(job))


def _adapter_name(suffix: str | None) -> str:
    """What versions of the result are called; without a suffix a name of its own."""
    if suffix is None:
        return f"ft-{secrets.token_hex(4)}"
    try:
        check_name(suffix + CHECKPOINTS)  # which has to be a name too
        return check_name(suffix)
    except InvalidReference as error:
        message = f"'suffix' names the adapter: {error.message}"
        raise InvalidRequest(message, param="suffix") from None
