"""Which path leads where."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware import Middleware
from starlette.routing import Route

from registry.tuning import Queue
from server.api.ports import Base

from .file_routes import FileRoutes
from .job_routes import JobRoutes

JOBS = "/v1/fine_tuning/jobs"
ONE_JOB = JOBS + "/{job_id}"
FILES = "/v1/files"
ONE_FILE = FILES + "/{file_id}"


def tuning_routes(queue: Queue, base: Base, middleware: Sequence[Middleware]) -> list[Route]:
    """Files and jobs, each behind `middleware`."""
    files, jobs = FileRoutes(queue), JobRoutes(queue, base)
    table = (
        (FILES, files.upload, "POST"),
        (FILES, files.index, "GET"),
        (ONE_FILE, files.show, "GET"),
        (ONE_FILE, files.remove, "DELETE"),
        (ONE_FILE + "/content", files.content, "GET"),
        (JOBS, jobs.create, "POST"),
        (JOBS, jobs.index, "GET"),
        (ONE_JOB, jobs.show, "GET"),
        (ONE_JOB + "/cancel", jobs.cancel, "POST"),
        (ONE_JOB + "/pause", jobs.pause, "POST"),
        (ONE_JOB + "/resume", jobs.resume, "POST"),
        (ONE_JOB + "/events", jobs.events, "GET"),
        (ONE_JOB + "/checkpoints", jobs.checkpoints, "GET"),
    )
    return [
        Route(path, endpoint, methods=[method], middleware=middleware)
        for path, endpoint, method in table
    ]
