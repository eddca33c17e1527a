"""What the heap holds free: kept between steps, given back once a minute."""

from __future__ import annotations

import subprocess
import sys

import pytest

from server.engine.memory import HOLES_LAST, Holes

FRAGMENTED = """
import os
import torch
from server.engine.memory import close_holes, keep_freed_memory
from tests.torture.watching import resident

keep_freed_memory()
held = [torch.ones(2**18) for _ in range(400)]  # a mebibyte each
for number in range(1, 400, 2):  # what stays lies between what goes
    held[number] = torch.ones(2**8)
del held[::2]
kept = resident(os.getpid())
close_holes()
print((kept - resident(os.getpid())) >> 20)
"""


def test_holes_are_closed_once_a_minute() -> None:
    now, closed = [100.0], []
    holes = Holes(close=lambda: closed.append(now[0]), clock=lambda: now[0])
    for seconds in (0.0, HOLES_LAST - 1, 1.0, 1.0, HOLES_LAST - 2, 1.0):
        now[0] += seconds
        holes.look()
    assert closed == [100 + HOLES_LAST, 100 + 2 * HOLES_LAST]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_what_nothing_uses_goes_back_to_the_system() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FRAGMENTED], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 100  # MiB
