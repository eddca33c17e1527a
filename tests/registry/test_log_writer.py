"""What is logged arrives, on whatever kind of stderr."""

from __future__ import annotations

import logging
import os

from registry.log_writer import LogWriter


def test_no_line_is_lost_on_a_pipe_that_refuses_what_it_has_no_room_for() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    writer = LogWriter(writing)
    lines = [f"{number}: {'x' * 200}" for number in range(2000)]  # six times what a pipe holds
    for line in lines:
        writer.handle(logging.makeLogRecord({"msg": line}))
    with os.fdopen(reading, "rb") as pipe:
        found = [pipe.readline().decode().rstrip("\n") for _ in lines]
    writer.close()
    os.close(writing)
    assert found == lines
