"""Jobs as a worker sees them: taken, kept alive, reported on, let go."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.stores import Store

from . import owners, tables
from .jobs import Job, read
from .records import Level, add_checkpoint, add_event, forget_model
from .statuses import Status

LEASE = 60.0  # seconds without a sign of life after which a worker counts as gone
MAX_ATTEMPTS = 3  # of a job whose workers were gone each time


class Claims:
    """One worker's side of the queue; `worker` names it, `fingerprint` is the base it has."""

    def __init__(self, store: Store, worker: str, fingerprint: str) -> None:
        self._store = store
        self._worker = worker
        self._fingerprint = fingerprint

    def take(self) -> Job | None:
        """The oldest job that waits for this base, or whose worker has gone; None: there is none.

        A job is begun again at most `MAX_ATTEMPTS` times: it may be what ends its workers.
        """
        with self._store.write() as connection:
            self._give_up_on_fatal_ones(connection)
            row = connection.execute(self._waiting().limit(1)).first()
            if row is None:
                return None
            was_lost = row.status == "running"
            message = "Fine-tuning job started"
            if was_lost:
                message = f"Fine-tuning job taken over: {row.worker} has gone"
            self._write(
                connection,
                row.key,
                status="running",
                worker=self._worker,
                seen_at=time.time(),
                num_attempts=row.num_attempts + was_lost,
            )
            add_event(connection, row.key, message)
            return read(self._row(connection, row.id))

    def keep(self, job: Job) -> bool:
        """A sign of life; False once the job is no longer to be run, or is somebody else's."""
        with self._store.write() as connection:
            row = self._row(connection, job.id)
            if row.worker != self._worker or row.status != "running":
                return False
            self._write(connection, row.key, seen_at=time.time())
            return True

    def status(self, job: Job) -> Status:
        """The job's status now."""
        with self._store.read() as connection:
            found: Status = self._row(connection, job.id).status
            return found

    def note(
        self,
        job: Job,
        message: str,
        *,
        level: Level = "info",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a line of the job's log."""
        with self._store.write() as connection:
            key = self._row(connection, job.id).key
            add_event(connection, key, message, level=level, data=data)

    def saved(
        self, job: Job, step: int, metrics: Mapping[str, float], model: str | None = None
    ) -> None:
        """Note a checkpoint."""
        with self._store.write() as connection:
            add_checkpoint(connection, self._row(connection, job.id).key, step, metrics, model)

    def withdrawn(self, model: str) -> None:
        """Note that a checkpoint's version is gone."""
        with self._store.write() as connection:
            forget_model(connection, model)

    def release(self, job: Job) -> None:
        """Let go of a job that was paused, cancelled or resumed meanwhile."""
        with self._store.write() as connection:
            row = self._row(connection, job.id)
            if row.worker == self._worker:
                self._write(connection, row.key, worker=None, seen_at=None)

    def give_back(self, job: Job, message: str) -> None:
        """Put a running job back into the queue: this worker is to end."""
        self._end(job, "queued", message, finished_at=None)

    def succeed(
        self, job: Job, model: str, *, result_file: str, trained_tokens: int | None
    ) -> None:
        """The job is done; `model` is what requests name."""
        self._end(
            job,
            "succeeded",
            f"New fine-tuned model created: {model}",
            fine_tuned_model=model,
            result_file=result_file,
            trained_tokens=trained_tokens,
        )

    def fail(self, job: Job, *, code: str, message: str, param: str | None = None) -> None:
        """The job cannot be done; the error is what its caller sees."""
        error = {"code": code, "message": message, "param": param}
        self._end(job, "failed", message, level="error", error=error)

    def _end(
        self, job: Job, status: Status, message: str, *, level: Level = "info", **values: Any
    ) -> None:
        with self._store.write() as connection:
            row = self._row(connection, job.id)
            if row.worker != self._worker:
                return  # another has taken over: what this one thinks no longer counts
            ending = {"finished_at": int(time.time()), "worker": None, "seen_at": None, **values}
            if "result_file" in values:
                owners.give_as(connection, values["result_file"], like=job.id)
            if row.status == "running":
                ending["status"] = status
                add_event(connection, row.key, message, level=level)
            self._write(connection, row.key, **ending)

    def _waiting(self) -> sa.Select[Any]:
        job = tables.job.c
        # A sign of life from the future is from before the clock was set back: none.
        now = time.time()
        is_alive = job.seen_at.between(now - LEASE, now + LEASE)
        is_free = sa.or_(job.worker.is_(None), sa.not_(is_alive))
        return (
            sa.select(tables.job)
            .where(job.base_fingerprint == self._fingerprint)
            .where(job.status.in_(("queued", "running")), is_free)
            .order_by(job.key)
        )

    def _give_up_on_fatal_ones(self, connection: Connection) -> None:
        fatal = self._waiting().where(tables.job.c.num_attempts >= MAX_ATTEMPTS)
        for row in connection.execute(fatal).all():
            message = f"{row.num_attempts} workers ended while they ran this job"
            error = {"code": "worker_lost", "message": message, "param": None}
            self._write(
                connection,
                row.key,
                status="failed",
                error=error,
                finished_at=int(time.time()),
                worker=None,
            )
            add_event(connection, row.key, message, level="error")

    def _row(self, connection: Connection, job_id: str) -> Any:
        return connection.execute(sa.select(tables.job).where(tables.job.c.id == job_id)).one()

    def _write(self, connection: Connection, key: int, **values: Any) -> None:
        connection.execute(sa.update(tables.job).where(tables.job.c.key == key).values(values))
