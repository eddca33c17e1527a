"""What the servers write to their logs: lines for people, or one JSON object a line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Literal

from .log_writer import LogWriter

LogFormat = Literal["text", "json"]

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_FIELDS = "hatstand_fields"
# What would begin a new line, or play with a terminal: written as Python escapes it.
_ESCAPES = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}


def configure_logging(log_format: LogFormat = "text") -> None:
    """Have everything that this process logs, uvicorn's lines included, written to stderr so."""
    handler = LogWriter()
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines(_TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # its own parts, by name


def fields(**values: Any) -> dict[str, Any]:
    """`extra` of a log call: what programs read beside the message. None is left out."""
    return {_FIELDS: {name: value for name, value in values.items() if value is not None}}


class TextLines(logging.Formatter):
    """One line a record, whatever its message holds; a traceback follows on lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        record.message = record.message.translate(_ESCAPES)
        return super().formatMessage(record)


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, logger, message, fields, and the error if any."""

    def format(self, record: logging.LogRecord) -> str:
        error = {"error": self.formatException(record.exc_info)} if record.exc_info else {}
        values = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
            **error,
        }
        return json.dumps(values, ensure_ascii=True, default=str)
