"""Record work for a device once and replay it: CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import torch

Work = Callable[[], None]


class Recorder(Protocol):
    """Turns work over static memory into something cheap to repeat."""

    def prepare(self, works: Iterable[Work]) -> None:
        """Have everything that they launch compiled and loaded; they may be done for that."""
        ...

    def record(self, work: Work) -> Work:
        """What repeats `work`, reading and writing the same memory; it is prepared for."""
        ...


class NoRecorder:
    """Repeats work by doing it again: for CPU, and for kernels that cannot be captured."""

    def prepare(self, works: Iterable[Work]) -> None:
        pass

    def record(self, work: Work) -> Work:
        return work


class GraphRecorder:
    """Captures work as CUDA graphs that share one memory pool.

    The pool is sound because graphs run one at a time and leave nothing in it: results go to
    static memory outside.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def prepare(self, works: Iterable[Work]) -> None:
        from server.kernels.triton.together import compiled_together  # loads the compiler

        works = list(works)
        with compiled_together():
            _do(works)
        _do(works)  # loads what cannot be loaded while capturing

    def record(self, work: Work) -> Work:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            work()
        return graph.replay


def _do(works: Iterable[Work]) -> None:
    for work in works:
        work()


def bucket_sizes(most: int) -> tuple[int, ...]:
    """Numbers of rows that get a graph of their own, the last one `most`.

    A batch runs in the next larger one; the steps keep what that wastes to about an eighth, or to
    one tile of a tensor core.
    """
    sizes = [1, 2, 4, 8, *range(16, 65, 8), *range(80, 129, 16), *range(160, most, 32)]
    return (*(size for size in sizes if size < most), most)
