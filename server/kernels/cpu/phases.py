"""How threads share one forward pass.

Every thread runs the same compiled function over the same phases. A phase is cut into chunks; a
thread takes the next one until none is left, then waits until those that others took are done.
Nobody depends on a thread that has not come, or has been put aside between two chunks: with a core
taken away, the others do its part.
"""

from __future__ import annotations

from numba import njit

from server.kernels.cpu.memory import count_up, give_way, pause, read_shared

PHASE_BYTES = 128  # two counters, each in a cache line of its own: chunks taken, chunks done
DONE = 64
SPINS = 2000  # looks before a waiting thread lets others have its core


@njit
def take_chunk(phase: int) -> int:
    """The number of the next chunk of the phase whose counters lie at this address."""
    return count_up(phase)


@njit
def end_chunk(phase: int) -> None:
    count_up(phase + DONE)


@njit
def await_chunks(phase: int, num_chunks: int) -> None:
    """Return when all of a phase is done, whoever did it."""
    spins = 0
    while read_shared(phase + DONE) < num_chunks:
        pause()
        spins += 1
        if spins > SPINS:
            give_way()
