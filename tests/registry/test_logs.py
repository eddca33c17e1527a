"""Log lines: one a record, whatever is in it."""

from __future__ import annotations

import json
import logging

import pytest

from registry.logs import JsonLines, TextLines, fields

NASTY = "sql\n2026-01-01 INFO forged: all is well\r\x1b[2J\u2028\x85"


def record(message: str, *, error: bool = False) -> logging.LogRecord:
    caught = None
    if error:
        try:
            raise ValueError(NASTY)
        except ValueError as failure:
            caught = (ValueError, failure, failure.__traceback__)
    made = logging.LogRecord("some.logger", logging.WARNING, __file__, 1, "%s", (message,), caught)
    vars(made).update(fields(status=200, tenant=None, path=NASTY))
    return made


@pytest.mark.parametrize("error", [False, True])
def test_json_is_one_line_that_says_everything(error: bool) -> None:
    line = JsonLines().format(record(NASTY, error=error))
    assert len(line.splitlines()) == 1
    values = json.loads(line)
    assert values["message"] == values["path"] == NASTY
    assert (values["level"], values["logger"], values["status"]) == ("warning", "some.logger", 200)
    assert "tenant" not in values
    assert ("ValueError" in values.get("error", "")) == error


def test_text_is_one_line_too() -> None:
    line = TextLines("%(levelname)s %(message)s").format(record(NASTY))
    assert line == (r"WARNING sql\n2026-01-01 INFO forged: all is well\r\x1b[2J\u2028\x85")
