"""What is logged arrives, on whatever kind of stderr."""

from __future__ import annotations

import gc
import logging
import os
import sys
import weakref

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


def test_a_traceback_that_waits_to_be_written_holds_nothing_alive() -> None:
    class Large:
        """What a frame of the engine may hold."""

    def fail() -> weakref.ref[Large]:
        large = Large()
        seen = weakref.ref(large)
        try:
            raise ValueError(f"no room for {large.__class__.__name__}")
        except ValueError:
            writer.handle(logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()}))
        return seen

    reading, writing = os.pipe()
    writer = LogWriter(writing)
    writer.handle(logging.makeLogRecord({"msg": "x" * (1 << 17)}))  # more than the pipe holds
    seen = fail()
    gc.collect()
    assert seen() is None
    with os.fdopen(reading, "rb") as pipe:
        lines = [pipe.readline() for _ in range(3)]
        assert lines[1:] == [b"failed\n", b"Traceback (most recent call last):\n"]
        writer.close()
        os.close(writing)
        assert pipe.read().endswith(b"ValueError: no room for Large\n")
