"""Whether anybody has committed to a SQLite file, asked for less than a transaction costs."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from pathlib import Path

Stamp = tuple[int, ...]


class CommitWatch:
    """One connection of its own, in no transaction. Safe from any thread and after a fork.

    seconds: how long to wait for a writer who keeps readers out.
    """

    def __init__(self, path: Path, *, seconds: float) -> None:
        self._path = path
        self._seconds = seconds
        self._lock = threading.Lock()
        self._file: Stamp = ()  # whose connection it is: device, inode, process
        self._connection: sqlite3.Connection | None = None
        self._close = weakref.finalize(self, lambda: None)
        self._num_opened = 0
        self._inherited: list[sqlite3.Connection] = []

    def stamp(self) -> Stamp | None:
        """Another one after every commit of any process; None where the file cannot be read.

        It costs some 10 µs: `PRAGMA data_version` is what SQLite has for this.
        """
        with self._lock, contextlib.suppress(OSError, sqlite3.Error):
            (version,) = self._opened().execute("PRAGMA data_version").fetchone()
            return self._num_opened, version
        return None

    def close(self) -> None:
        """Let go of the connection; the next stamp opens another."""
        with self._lock:
            self._let_go()

    def _opened(self) -> sqlite3.Connection:
        """The connection, to the file that lies there now."""
        status = self._path.stat()
        file = (status.st_dev, status.st_ino, os.getpid())
        if self._connection is None or file != self._file:
            self._let_go()
            self._connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=rw",  # never makes a file
                uri=True,
                timeout=self._seconds,
                check_same_thread=False,
            )
            self._close = weakref.finalize(self, self._connection.close)
            self._file, self._num_opened = file, self._num_opened + 1
        return self._connection

    def _let_go(self) -> None:
        if self._connection is not None and self._file[-1] != os.getpid():
            # The parent's: closing it here, SQLite could take locks away from the parent.
            self._close.detach()
            self._inherited.append(self._connection)
        self._close()
        self._connection = None
