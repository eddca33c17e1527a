"""The queue: what servers put in and workers take out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from registry.homes import hatstand_home
from registry.stores import Store

from .claims import Claims
from .files import FileLimits, Files
from .jobs import Jobs
from .records import Records
from .tables import metadata

QUEUE_VARIABLE = "HATSTAND_TUNING"
MAX_UNFINISHED = 32


@dataclass(frozen=True)
class Queue:
    """Files, jobs and their records in one database, from any thread or process."""

    store: Store
    files: Files
    jobs: Jobs
    records: Records

    def of(self, owner: str) -> Queue:
        """The queue as an owner sees it, with their own limits; "": everything, as the worker."""
        store = self.store
        return Queue(
            store,
            Files(store, self.files.limits, owner),
            Jobs(store, max_unfinished=self.jobs.max_unfinished, owner=owner),
            Records(store, owner),
        )

    def claims(self, worker: str, fingerprint: str) -> Claims:
        """A worker's side: it calls itself `worker` and has the base of that fingerprint."""
        return Claims(self.store, worker, fingerprint)

    def close(self) -> None:
        """Let go of the database's connections."""
        self.store.close()


def open_queue(
    location: str | Path | None = None,
    *,
    limits: FileLimits | None = None,
    max_unfinished: int = MAX_UNFINISHED,
) -> Queue:
    """The queue in a file or a database by URL; None: where `HATSTAND_TUNING` says, else at home.

    Raises `CatalogUnavailable`.
    """
    where = location or os.environ.get(QUEUE_VARIABLE) or hatstand_home() / "tuning.sqlite"
    place = where if "://" in os.fspath(where) else Path(where).expanduser().absolute()
    store = Store(place, metadata, name="the queue")
    return Queue(
        store,
        Files(store, limits or FileLimits()),
        Jobs(store, max_unfinished=max_unfinished),
        Records(store),
    )
