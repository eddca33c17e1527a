"""Uploaded files: rows to train and validate on, and the figures that a job leaves behind."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.stores import Store

from . import owners, tables
from .errors import FileInUse, FileNotFound, FileTooLarge, InvalidUpload, LimitReached
from .rows import new_id, page
from .statuses import UNFINISHED

TRAINING = "fine-tune"
RESULTS = "fine-tune-results"
PIECE = 1 << 20  # bytes of one chunk


@dataclass(frozen=True)
class StoredFile:
    """One file; its bytes are read by `Files.content`."""

    id: str
    name: str
    purpose: str
    num_bytes: int
    created_at: int


@dataclass(frozen=True)
class FileLimits:
    """How much may be uploaded: bytes of one file, and how many files at a time."""

    max_bytes: int = 64 << 20
    max_files: int = 100


class Files:
    """The files of one queue, as their owner sees them."""

    def __init__(self, store: Store, limits: FileLimits, owner: str = owners.NOBODY) -> None:
        self._store = store
        self.limits = limits
        self._owner = owner

    def add(self, name: str, purpose: str, pieces: Iterable[bytes]) -> StoredFile:
        """Keep a file; raises `InvalidUpload`, `FileTooLarge` or `LimitReached`."""
        if not name or len(name) > 255 or not name.isprintable():
            raise InvalidUpload("a file needs a name of 1 to 255 characters", param="file")
        with self._store.write() as connection:
            self._check_room(connection, purpose)
            new = StoredFile(new_id("file"), name, purpose, 0, int(time.time()))
            connection.execute(sa.insert(tables.file).values(asdict(new)))
            owners.give(connection, new.id, self._owner)
            num_bytes = self._write(connection, self._find(connection, new.id).key, pieces)
            if not num_bytes:
                raise InvalidUpload("the file is empty", param="file")
            own = tables.file.c.id == new.id
            connection.execute(sa.update(tables.file).where(own).values(num_bytes=num_bytes))
        return replace(new, num_bytes=num_bytes)

    def get(self, file_id: str) -> StoredFile:
        """The file by its id; raises `FileNotFound`."""
        with self._store.read() as connection:
            return _file(self._find(connection, file_id))

    def page(
        self, *, purpose: str | None = None, after: str | None = None, limit: int = 100
    ) -> tuple[list[StoredFile], bool]:
        """Files newest first, and whether there are more."""
        conditions = [owners.is_seen_by(self._owner, tables.file)]
        if purpose is not None:
            conditions.append(tables.file.c.purpose == purpose)
        with self._store.read() as connection:
            rows, more = page(connection, tables.file, *conditions, after=after, limit=limit)
        return [_file(row) for row in rows], more

    def content(self, file_id: str) -> Iterator[bytes]:
        """The file's bytes, piece by piece; raises `FileNotFound` before the first."""
        with self._store.read() as connection:
            key = self._find(connection, file_id).key
        return self._pieces(key)

    def copy_to(self, file_id: str, path: Path) -> None:
        """Write the file's bytes to `path`."""
        with path.open("wb") as target:
            for piece in self.content(file_id):
                target.write(piece)

    def remove(self, file_id: str) -> None:
        """Delete a file; raises `FileInUse` while an unfinished job needs it."""
        with self._store.write() as connection:
            key = self._find(connection, file_id).key
            uses = (tables.job.c.training_file, tables.job.c.validation_file)
            user = connection.execute(
                sa.select(tables.job.c.id).where(
                    tables.job.c.status.in_(UNFINISHED), sa.or_(*(use == file_id for use in uses))
                )
            ).scalar()
            if user is not None:
                raise FileInUse(f"{file_id} is needed by {user}: cancel that first", param="file")
            connection.execute(sa.delete(tables.chunk).where(tables.chunk.c.file_key == key))
            connection.execute(sa.delete(tables.file).where(tables.file.c.key == key))
            owners.forget(connection, file_id)

    def _check_room(self, connection: Connection, purpose: str) -> None:
        count = connection.execute(
            sa.select(sa.func.count())
            .select_from(tables.file)
            .where(tables.file.c.purpose == purpose, owners.is_seen_by(self._owner, tables.file))
        ).scalar_one()
        if purpose == TRAINING and count >= self.limits.max_files:
            raise LimitReached(f"there are {count} files already: delete some first", param="file")

    def _find(self, connection: Connection, file_id: str) -> Any:
        return find(connection, file_id, self._owner)

    def _write(self, connection: Connection, key: int, pieces: Iterable[bytes]) -> int:
        num_bytes = 0
        for number, piece in enumerate(_in_pieces(pieces)):
            num_bytes += len(piece)
            if num_bytes > self.limits.max_bytes:
                raise FileTooLarge(f"the file is over {self.limits.max_bytes} bytes", param="file")
            values = {"file_key": key, "number": number, "content": piece}
            connection.execute(sa.insert(tables.chunk).values(values))
        return num_bytes

    def _pieces(self, key: int) -> Iterator[bytes]:
        number = 0
        while True:
            with self._store.read() as connection:
                piece = connection.execute(
                    sa.select(tables.chunk.c.content).where(
                        tables.chunk.c.file_key == key, tables.chunk.c.number == number
                    )
                ).scalar()
            if piece is None:
                return
            yield piece
            number += 1


def _in_pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of `PIECE`, the last one shorter."""
    waiting = b""
    for part in parts:
        waiting += part
        while len(waiting) >= PIECE:
            yield waiting[:PIECE]
            waiting = waiting[PIECE:]
    if waiting:
        yield waiting


def find(connection: Connection, file_id: str, owner: str, *, param: str = "file") -> Any:
    """The row of a file that the owner sees; raises `FileNotFound`."""
    row = owners.find(connection, tables.file, file_id, owner)
    if row is None:
        raise FileNotFound(f"there is no file {file_id!r}", param=param)
    return row


def _file(row: Any) -> StoredFile:
    return StoredFile(row.id, row.name, row.purpose, row.num_bytes, row.created_at)
