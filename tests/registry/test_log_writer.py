"""A process that logs goes on, whether or not somebody reads its lines."""

from __future__ import annotations

import subprocess
import sys

LOGGING = """
import logging
from registry.logs import configure_logging
configure_logging()
for number in range({lines}):
    logging.info("%d %s", number, "x" * 100)
print("done", flush=True)
input()
logging.info("the last")
"""


def start(lines: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LOGGING.format(lines=lines)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_every_line_is_written_in_order() -> None:
    with start(2_000) as process:
        _, lines = process.communicate("\n")
    numbers = [line.split()[-2] for line in lines.splitlines()]
    assert numbers == [*map(str, range(2_000)), "the"]


def test_a_reader_that_sleeps_stops_nobody() -> None:
    with start(30_000) as process:  # ten times what pipe and queue hold
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        _, lines = process.communicate("\n")
    assert process.returncode == 0
    written = lines.splitlines()
    confessions = [line for line in written if " lines before this were dropped" in line]
    dropped = [int(line.split("log_writer: ")[1].split()[0]) for line in confessions]
    assert sum(dropped) > 0
    assert len(written) - len(confessions) + sum(dropped) == 30_001


def test_the_end_does_not_wait_for_a_reader_that_sleeps() -> None:
    with start(30_000) as process:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(30) == 0
