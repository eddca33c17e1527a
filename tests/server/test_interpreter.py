"""A process that serves: what it does not look through again, and what it does."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from server.interpreter import collecting_later

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


def test_a_start_is_not_held_up_by_the_collector_which_is_there_afterwards() -> None:
    passes = [each["collections"] for each in gc.get_stats()]
    with collecting_later():
        made = [[number] for number in range(100_000)]
        assert [each["collections"] for each in gc.get_stats()] == passes
    assert gc.isenabled()
    assert len(made) == 100_000


def test_a_start_that_fails_leaves_the_collector_as_it_was() -> None:
    with pytest.raises(ZeroDivisionError), collecting_later():
        _ = 1 / 0
    assert gc.isenabled()
