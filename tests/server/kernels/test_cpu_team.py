"""A team does every chunk of every phase once, whoever comes when."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from server.kernels.cpu.support import is_supported

if not is_supported():
    pytest.skip("needs AVX-512 with bf16", allow_module_level=True)

from numba import njit

from server.kernels.cpu.phases import PHASE_BYTES, await_chunks, end_chunk, take_chunk
from server.kernels.cpu.team import Team
from tests.support.waiting import PATIENCE, eventually

NUM_PHASES, NUM_CHUNKS = 400, 7


@njit(nogil=True)
def walk(counters: int, done: np.ndarray) -> None:
    """In each phase, each chunk becomes its left neighbour of the phase before, plus one."""
    for phase in range(NUM_PHASES):
        there = counters + phase * PHASE_BYTES
        chunk = take_chunk(there)
        while chunk < NUM_CHUNKS:
            done[phase + 1, chunk] += done[phase, chunk - 1] + 1
            end_chunk(there)
            chunk = take_chunk(there)
        await_chunks(there, NUM_CHUNKS)


def fresh() -> tuple[np.ndarray, np.ndarray]:
    return (
        np.zeros(NUM_PHASES * PHASE_BYTES, np.uint8),
        np.zeros((NUM_PHASES + 1, NUM_CHUNKS), np.int64),
    )


@pytest.mark.parametrize("size", [1, 2, 5])
def test_every_chunk_is_done_once_and_in_its_phase(size: int) -> None:
    team = Team(size)
    assert team.size == size
    for _ in range(20):
        counters, done = fresh()
        team.run(lambda _, c=counters, d=done: walk(c.ctypes.data, d))
        assert (done == np.arange(NUM_PHASES + 1)[:, None]).all()


def test_nobody_waits_for_one_that_comes_late() -> None:
    team = Team(2)
    begun, late, came = threading.Event(), threading.Event(), threading.Event()
    counters, done = fresh()

    def work(number: int) -> None:
        if number:
            begun.set()
            late.wait(PATIENCE)
        else:  # or the other might find the work done and never come, as it may
            assert begun.wait(PATIENCE)
        walk(counters.ctypes.data, done)
        if number:
            came.set()

    team.run(work)
    assert (done[-1] == NUM_PHASES).all()
    assert not came.is_set()
    late.set()
    assert came.wait(PATIENCE)
    assert (done[-1] == NUM_PHASES).all()


def members() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("kernels-")}


def test_the_others_leave_when_the_team_is_forgotten() -> None:
    others = members()  # of teams whose members have not all left yet
    team = Team(3)
    team.run(lambda _: None)
    assert len(members() - others) == 2
    del team
    eventually(lambda: members() <= others, "they have left")
