"""Log lines written by a thread, so that nobody waits for whoever reads them."""

from __future__ import annotations

import logging
import os
import queue
import select
import threading

_STDERR = 2
_MOST = 10_000  # records that may wait to be written
_PATIENCE = 1.0  # seconds that the end of the process waits for them


class LogWriter(logging.Handler):
    """Writes to stderr. While that takes nothing, as a pipe whose reader sleeps, records wait; more
    than fit are dropped, and how many is logged as soon as lines pass again."""

    def __init__(self, descriptor: int = _STDERR, *, most: int = _MOST) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._records: queue.Queue[logging.LogRecord | None] = queue.Queue(most)
        self._num_dropped = 0
        self._counting = threading.Lock()  # the handler's own is held while it is closed
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._records.put_nowait(record)
        except queue.Full:
            with self._counting:
                self._num_dropped += 1

    def close(self) -> None:
        """Write what waits, as far as that goes within a second."""
        try:
            self._records.put(None, timeout=_PATIENCE)
        except queue.Full:
            return
        self._thread.join(_PATIENCE)
        super().close()

    def _write_all(self) -> None:
        while (record := self._records.get()) is not None:
            try:
                self._write(record)
                if self._num_dropped:
                    self._write(self._confession())
            except OSError:  # the reader has gone for good: there is nobody to tell
                continue
            except Exception:
                self.handleError(record)

    def _write(self, record: logging.LogRecord) -> None:
        line = memoryview(f"{self.format(record)}\n".encode(errors="backslashreplace"))
        while line:
            try:
                line = line[os.write(self._descriptor, line) :]
            except BlockingIOError:  # whoever shares stderr with us has made it one that refuses
                select.select([], [self._descriptor], [])

    def _confession(self) -> logging.LogRecord:
        with self._counting:
            num_dropped, self._num_dropped = self._num_dropped, 0
        values = {
            "msg": "%d lines before this were dropped: their reader did not keep up",
            "args": (num_dropped,),
        }
        return logging.makeLogRecord(
            {"name": __name__, "levelname": "WARNING", "levelno": logging.WARNING, **values}
        )
