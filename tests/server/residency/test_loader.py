"""Several adapters are read at once, in the order they came, by threads that leave torch alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from server.engine.request import AdapterRef
from server.engine.slots import PackedAdapter
from server.errors import AdapterLoadError
from server.residency.loader import Loaded, Loader
from tests.support.waiting import PATIENCE, eventually


class Source:
    """Adapters that come when the gate opens; remembers who was read, and how torch was set."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.num_threads: set[int] = set()
        self.gate = threading.Event()

    def load(self, adapter: AdapterRef) -> PackedAdapter:
        self.began.append(adapter.digest)
        self.num_threads.add(torch.get_num_threads())
        assert self.gate.wait(PATIENCE)
        if adapter.digest == "broken":
            raise AdapterLoadError("the file is cut off")
        if adapter.digest == "odd":
            raise ZeroDivisionError("odd")
        return PackedAdapter(adapter.digest, adapter.label, 1, {})


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def loader(source: Source) -> Iterator[Loader]:
    made = Loader(source, num_threads=2)
    yield made
    source.gate.set()
    made.stop()


def begin(loader: Loader, *names: str) -> None:
    for name in names:
        loader.begin(AdapterRef(name, name))


def finish(loader: Loader, source: Source) -> dict[str, Loaded]:
    source.gate.set()
    found: list[Loaded] = []
    eventually(lambda: found.extend(loader.finished()) or not loader.is_busy)
    return {loaded.digest: loaded for loaded in found}


def test_several_are_read_at_once_but_no_more_than_there_are_threads(
    loader: Loader, source: Source
) -> None:
    begin(loader, "a", "b", "c", "d")
    eventually(lambda: len(source.began) == 2)
    time.sleep(0.02)
    assert sorted(source.began) == ["a", "b"]
    finish(loader, source)
    assert sorted(source.began[2:]) == ["c", "d"]


def test_those_that_wait_for_a_thread_are_read_in_the_order_they_came(source: Source) -> None:
    loader = Loader(source, num_threads=1)
    begin(loader, *"cabed")
    finish(loader, source)
    assert source.began == list("cabed")
    loader.stop()


def test_what_comes_out_is_the_adapter_or_why_not(
    loader: Loader, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    begin(loader, "a", "broken", "odd")
    found = finish(loader, source)
    assert isinstance(found["a"].outcome, PackedAdapter)
    assert [str(found[name].outcome) for name in ("broken", "odd")] == [
        "the file is cut off",
        "adapter odd could not be loaded; the server's log has the details",
    ]
    assert "ZeroDivisionError" in caplog.text
    assert found["a"].seconds > 0


def test_one_that_is_under_way_is_not_read_twice(loader: Loader, source: Source) -> None:
    begin(loader, "a", "a")
    finish(loader, source)
    begin(loader, "a")
    finish(loader, source)
    assert source.began == ["a", "a"]


def test_one_that_was_called_off_is_never_read_unless_it_is_wanted_again(
    loader: Loader, source: Source
) -> None:
    begin(loader, "a", "b", "c", "d")
    eventually(lambda: len(source.began) == 2)
    loader.call_off("c")
    loader.call_off("d")
    assert not loader.is_loading("c")
    begin(loader, "d")
    assert set(finish(loader, source)) == {"a", "b", "d"}
    assert "c" not in source.began


def test_one_that_is_being_read_comes_to_its_end(loader: Loader, source: Source) -> None:
    begin(loader, "a")
    eventually(lambda: source.began)
    loader.call_off("a")
    loader.call_off("unknown")
    assert set(finish(loader, source)) == {"a"}


def test_loader_threads_keep_torch_to_one_thread_and_leave_others_theirs(
    loader: Loader, source: Source
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        begin(loader, "a", "b")
        finish(loader, source)
        assert source.num_threads == {1}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
