"""Which sizes are recorded."""

from __future__ import annotations

import pytest

from server.engine.graphs import NoRecorder, bucket_sizes
from server.engine.prompt_steps import prompt_sizes


@pytest.mark.parametrize("most", [1, 3, 8, 20, 100, 128, 500])
def test_every_batch_has_a_size_that_wastes_little(most: int) -> None:
    sizes = bucket_sizes(most)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] == most
    for count in range(1, most + 1):
        size = next(size for size in sizes if size >= count)
        assert size - count < max(8, count / 4)


@pytest.mark.parametrize("most", [1, 16, 100, 256, 2048, 3000])
def test_every_prompt_has_a_pass(most: int) -> None:
    sizes = prompt_sizes(most)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] == most
    for count in range(1, most + 1):
        size = next(size for size in sizes if size >= count)
        assert size <= max(16, 2 * count)
        assert size - count < 256


def test_without_a_device_work_is_simply_done_again() -> None:
    done: list[int] = []
    recorder = NoRecorder()
    recorder.prepare([lambda: done.append(0)])
    work = recorder.record(lambda: done.append(1))
    assert done == []
    work()
    work()
    assert done == [1, 1]
