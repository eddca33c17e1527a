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
        self._waiting: queue.Queue[logging.LogRecord | str | None] = queue.Queue(most)
        self._num_dropped = 0
        self._counting = threading.Lock()  # the handler's own is held while it is closed
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._waiting.full():
            self._drop()
            return
        try:
            # A traceback holds all that its frames held: that must not wait for a reader.
            self._waiting.put_nowait(self.format(record) if record.exc_info else record)
        except queue.Full:
            self._drop()
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Write what waits, as far as that goes within a second."""
        try:
            self._waiting.put(None, timeout=_PATIENCE)
        except queue.Full:
            return
        self._thread.join(_PATIENCE)
        super().close()

    def _drop(self) -> None:
        with self._counting:
            self._num_dropped += 1

    def _write_all(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            self._write(waiting)
            if self._num_dropped:
                self._write(self._confession())

    def _write(self, waiting: logging.LogRecord | str) -> None:
        """Write one, or say on stderr what is wrong with it."""
        try:
            self._put(waiting if isinstance(waiting, str) else self.format(waiting))
        except OSError:
            pass  # the reader has gone for good: there is nobody to tell
        except Exception:
            if isinstance(waiting, logging.LogRecord):
                self.handleError(waiting)

    def _put(self, text: str) -> None:
        line = memoryview(f"{text}\n".encode(errors="backslashreplace"))
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
