"""A process that serves: what it does not look through again, and what it does."""

from __future__ import annotations

import subprocess
import sys

SETTLED = """
import gc
from server.interpreter import settle_interpreter

class Circle:
    def __init__(self):
        self.own = self

gc.set_threshold(700, 10, 10)  # the same in each Python
there = [[number] for number in range(400_000)]  # as torch's modules are
settle_interpreter()
gone, held = 0, []
before = gc.get_stats()[2]["collections"]
while gc.get_stats()[2]["collections"] == before and gone < 90_000:
    held.append(Circle())
    if len(held) > 5_000:  # each outlives the young generations, as a stream's objects do
        held.pop(0)
        gone += 1
print(len(gc.get_objects()) < 100_000, gc.get_stats()[2]["collections"] - before)
"""


def test_circles_are_collected_before_they_are_as_many_as_what_was_loaded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SETTLED], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "1"]
