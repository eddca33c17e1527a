"""Jobs as callers see them: made, listed, cancelled, paused, resumed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.stores import Store

from . import owners, tables
from .errors import InvalidUpload, JobConflict, JobNotFound, LimitReached
from .files import TRAINING
from .files import find as find_file
from .records import add_event
from .rows import new_id, page
from .statuses import UNFINISHED, Status

__all__ = ["Job", "Jobs", "NewJob", "Status"]


@dataclass(frozen=True)
class NewJob:
    """What a caller asks for. `adapter` is the name that the result becomes a version of.

    `hyperparameters` are OpenAI's three; `recipe` has sections of a Hatstand recipe that go
    beyond them.
    """

    model: str
    base_fingerprint: str
    training_file: str
    adapter: str
    validation_file: str | None = None
    seed: int = 0
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job(NewJob):
    """A job as it stands. `error` has code, message and param; `worker` is who has it in hand."""

    id: str = ""
    created_at: int = 0
    status: Status = "queued"
    finished_at: int | None = None
    fine_tuned_model: str | None = None
    result_file: str | None = None
    trained_tokens: int | None = None
    error: Mapping[str, Any] | None = None
    worker: str | None = None
    num_attempts: int = 0


class Jobs:
    """The jobs of one queue, from the side of those who ask for them."""

    def __init__(self, store: Store, *, max_unfinished: int, owner: str = owners.NOBODY) -> None:
        self._store = store
        self.max_unfinished = max_unfinished
        self._owner = owner

    def add(self, new: NewJob) -> Job:
        """Queue a job. Raises `FileNotFound`, `InvalidUpload` or `LimitReached`."""
        with self._store.write() as connection:
            self._check_file(connection, new.training_file, "training_file")
            if new.validation_file is not None:
                self._check_file(connection, new.validation_file, "validation_file")
            self._check_room(connection)
            values = {"id": new_id("ftjob"), "created_at": int(time.time()), "status": "queued"}
            connection.execute(sa.insert(tables.job).values(**asdict(new), **values))
            owners.give(connection, str(values["id"]), self._owner)
            row = find(connection, str(values["id"]))
            add_event(connection, row.key, "Created fine-tuning job: " + row.id)
        return read(row)

    def get(self, job_id: str) -> Job:
        """The job by its id; raises `JobNotFound`."""
        with self._store.read() as connection:
            return read(find(connection, job_id, self._owner))

    def page(
        self,
        *,
        after: str | None = None,
        limit: int = 20,
        labels: Mapping[str, str] | None = None,
    ) -> tuple[list[Job], bool]:
        """Jobs newest first, and whether there are more; those with all of `labels`, if given."""
        wanted = [owners.is_seen_by(self._owner, tables.job)]
        wanted += [
            tables.job.c.labels[key].as_string() == own for key, own in (labels or {}).items()
        ]
        with self._store.read() as connection:
            rows, more = page(connection, tables.job, *wanted, after=after, limit=limit)
        return [read(row) for row in rows], more

    def cancel(self, job_id: str) -> Job:
        """End a job that is not over; a worker that has it in hand stops at its next step."""
        return self._change(job_id, UNFINISHED, "cancelled", "Fine-tuning job cancelled")

    def pause(self, job_id: str) -> Job:
        """Have a job stop at its next step and keep what it has, to be resumed."""
        return self._change(job_id, ("queued", "running"), "paused", "Fine-tuning job paused")

    def resume(self, job_id: str) -> Job:
        """Put a paused job back into the queue."""
        return self._change(job_id, ("paused",), "queued", "Fine-tuning job resumed")

    def _change(
        self, job_id: str, allowed: tuple[Status, ...], status: Status, message: str
    ) -> Job:
        with self._store.write() as connection:
            row = find(connection, job_id, self._owner)
            if row.status not in allowed:
                raise JobConflict(f"{job_id} is {row.status}: that cannot be changed", param="id")
            values: dict[str, Any] = {"status": status}
            if status == "cancelled":
                values["finished_at"] = int(time.time())
            own = tables.job.c.key == row.key
            connection.execute(sa.update(tables.job).where(own).values(values))
            add_event(connection, row.key, message)
            return read(find(connection, job_id))

    def _check_room(self, connection: Connection) -> None:
        count = connection.execute(
            sa.select(sa.func.count())
            .select_from(tables.job)
            .where(tables.job.c.status.in_(UNFINISHED), owners.is_seen_by(self._owner, tables.job))
        ).scalar_one()
        if count >= self.max_unfinished:
            raise LimitReached(f"{count} jobs are not over yet: wait for one, or cancel one")

    def _check_file(self, connection: Connection, file_id: str, param: str) -> None:
        purpose = find_file(connection, file_id, self._owner, param=param).purpose
        if purpose != TRAINING:
            raise InvalidUpload(
                f"{file_id} was uploaded for {purpose!r}, not {TRAINING!r}", param=param
            )


def find(connection: Connection, job_id: str, owner: str = owners.NOBODY) -> Any:
    """The row of a job that the owner sees; raises `JobNotFound`."""
    row = owners.find(connection, tables.job, job_id, owner)
    if row is None:
        raise JobNotFound(f"there is no fine-tuning job {job_id!r}", param="id")
    return row


def read(row: Any) -> Job:
    """A row as a `Job`."""
    names = cast(Mapping[str, Any], Job.__dataclass_fields__)
    return Job(**{name: getattr(row, name) for name in names})
