"""Who gets a slot, who keeps it, who leaves, and that nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from server.engine.config import ModelConfig
from server.engine.request import AdapterRef
from server.engine.slots import Factors, PackedAdapter, SlotPool
from server.errors import AdapterLoadError
from server.residency import Residency, loader, tenant
from server.residency.host import HostCache
from tests.support.waiting import PATIENCE, eventually

RANK, IN, OUT = 2, 16, 16
SITE = (0, "o")
CONFIG = ModelConfig.from_dict(
    {
        "model_type": "mistral",
        "vocab_size": 32,
        "hidden_size": IN,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6,
    }
)


def packed(name: str) -> PackedAdapter:
    """An adapter whose factors are filled with a number of its own."""
    value = float(ord(name[0]))
    factors = Factors(torch.full((RANK, IN), value), torch.full((RANK, OUT), value), (RANK,))
    return PackedAdapter(name, name, RANK, {SITE: factors})


NBYTES = packed("a").nbytes


class Source:
    """Adapters by name; those in `gates` come when their gate opens, those in `broken` never."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.gates: dict[str, threading.Event] = {}
        self.broken: dict[str, Exception] = {}

    def hold(self, name: str) -> threading.Event:
        return self.gates.setdefault(name, threading.Event())

    def load(self, adapter: AdapterRef) -> PackedAdapter:
        self.loads.append(adapter.digest)
        if adapter.digest in self.gates:
            assert self.gates[adapter.digest].wait(PATIENCE)
        if adapter.digest in self.broken:
            raise self.broken[adapter.digest]
        return packed(adapter.digest)


class House:
    """A Residency with two slots, driven step by step."""

    def __init__(self, num_slots: int = 2, host_memory: int = 100 * NBYTES) -> None:
        cpu = torch.device("cpu")
        self.slots = SlotPool(
            CONFIG, num_slots=num_slots, max_rank=RANK, dtype=torch.float32, device=cpu
        )
        self.source = Source()
        self.residency = Residency(self.source, self.slots, host_memory=host_memory)

    def settle(self, until: Callable[[], object] = lambda: True) -> None:
        """Steps until something is so."""
        self.residency.settle()
        eventually(lambda: until() or self.residency.settle())

    def enter(self, name: str) -> int | None:
        return self.residency.enter(AdapterRef(name, name))

    def arrive(self, *names: str) -> None:
        """Bring adapters into slots, one after the other."""
        for name in names:
            self.residency.want(AdapterRef(name, name))
            self.settle(until=lambda name=name: self.residency.is_resident(name))

    def use(self, name: str) -> int:
        """Have one sequence enter an adapter."""
        slots = []
        self.settle(until=lambda: slots.append(self.enter(name)) or slots[-1] is not None)
        return slots[-1]

    def failure(self, name: str) -> AdapterLoadError:
        self.settle(until=lambda: name in self.residency.failures)
        return self.residency.failures[name]

    @property
    def loading(self) -> tuple[str, ...]:
        return tuple(adapter.label for adapter in self.residency.loading())

    @property
    def in_slots(self) -> set[str]:
        return {r.digest for r in self.residency.residents() if r.level == "slot"}

    @property
    def in_host(self) -> set[str]:
        return {r.digest for r in self.residency.residents() if r.level == "host"}


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(tenant, "MIN_STAY", 0.0)
    made = House()
    yield made
    for gate in made.source.gates.values():
        gate.set()
    made.residency.stop()


def test_an_adapter_is_loaded_when_it_is_first_wanted(house: House) -> None:
    assert house.enter("a") is None
    assert house.loading == ("a",)
    slot = house.use("a")
    assert not house.residency.is_moving
    assert float(house.slots.factors(SITE, slot).shrink[0, 0]) == ord("a")
    assert house.source.loads == ["a"]


def test_an_expected_adapter_waits_in_host_memory_until_somebody_enters_it(house: House) -> None:
    house.use("a")
    house.use("b")
    house.residency.expect(AdapterRef("c", "c"))
    house.residency.expect(AdapterRef("c", "c"))
    house.settle(until=lambda: "c" in house.in_host)
    for _ in range(5):
        house.residency.expect(AdapterRef("c", "c"))
        house.residency.settle()
    assert house.in_slots == {"a", "b"}  # nobody is put out for it
    assert not house.residency.is_moving
    house.residency.leave("a")
    house.use("c")
    assert house.source.loads == ["a", "b", "c"]


def test_expected_adapters_do_not_push_one_another_out_for_ever() -> None:
    house = House(host_memory=NBYTES)
    for _ in range(20):
        for name in "abc":
            house.residency.expect(AdapterRef(name, name))
        house.settle(until=lambda: not house.residency.is_moving)
    assert sorted(house.source.loads) == ["a", "b", "c"]
    house.use("a")  # read again, now that it is needed
    house.residency.stop()


def test_an_expected_adapter_that_cannot_be_loaded_fails_like_a_wanted_one(house: House) -> None:
    house.source.broken["c"] = AdapterLoadError("no")
    house.residency.expect(AdapterRef("c", "c"))
    assert str(house.failure("c")) == "no"
    gate = house.source.hold("d")
    house.residency.expect(AdapterRef("d", "d"))
    house.residency.unwant("d")  # whoever waited has gone
    gate.set()
    house.settle(until=lambda: not house.residency.is_moving)
    assert "d" not in house.in_host


def test_what_each_move_took_is_counted(house: House) -> None:
    house.arrive("a", "b", "c", "a")
    house.source.broken["d"] = AdapterLoadError("no")
    house.enter("d")
    house.failure("d")
    loads, activations = house.residency.load_times, house.residency.activate_times
    assert (sum(loads.counts), sum(activations.counts)) == (3, 4)
    assert loads.total > 0


def test_the_least_recently_used_leaves_first(house: House) -> None:
    house.arrive("a", "b")
    house.use("a")
    house.residency.leave("a")
    house.arrive("c")
    assert house.in_slots == {"a", "c"}
    assert house.in_host == {"b"}
    assert house.residency.num_evictions == 1


def test_an_adapter_in_host_memory_is_not_read_again(house: House) -> None:
    house.arrive("a", "b", "c", "a")
    assert house.source.loads == ["a", "b", "c"]


def test_a_slot_holds_what_was_written_last(house: House) -> None:
    house.arrive("a", "b", "c")
    slot = house.use("c")
    assert float(house.slots.factors(SITE, slot).expand[0, 0]) == ord("c")


def test_an_adapter_in_use_is_never_evicted(house: House) -> None:
    first, _ = house.use("a"), house.use("b")
    assert house.enter("c") is None
    house.settle(until=lambda: "c" in house.in_host)
    for _ in range(20):
        house.residency.settle()
    assert house.in_slots == {"a", "b"}
    house.residency.leave("a")
    assert house.use("c") == first


def test_a_busy_slot_is_closed_to_newcomers_when_others_wait(house: House) -> None:
    house.use("a")
    house.use("b")
    house.enter("c")
    house.settle(until=lambda: not house.residency.is_resident("a"))
    assert house.enter("a") is None  # it has to let the one that waits go first
    house.residency.leave("a")
    house.use("c")
    house.residency.leave("b")
    house.use("a")


def test_of_many_slots_half_are_cleared_at_once_and_never_more_than_are_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tenant, "MIN_STAY", 0.0)
    house = House(num_slots=4)
    for name in "abcd":
        house.use(name)

    def closed() -> set[str]:
        return {name for name in "abcd" if house.enter(name) is None}

    house.enter("x")
    house.settle(until=lambda: "x" in house.in_host)
    house.settle()
    assert [each.adapter.digest for each in leaving(house)] == ["a"]
    for name in "yz":
        house.enter(name)
    house.settle(until=lambda: {"y", "z"} <= house.in_host)
    house.settle()
    assert [each.adapter.digest for each in leaving(house)] == ["a", "b"]
    assert closed() == {"a", "b"}
    house.residency.stop()


def leaving(house: House) -> list[tenant.Tenant]:
    return [each for each in house.residency._tenants.values() if each.leaving]


def test_a_slot_is_not_closed_before_it_was_of_use(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant, "MIN_STAY", 60.0)
    house.use("a")
    house.use("b")
    house.enter("c")
    house.settle(until=lambda: "c" in house.in_host)
    house.settle()
    assert house.enter("a") is not None


def test_adapters_that_wait_together_do_not_put_one_another_out(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcde":
        house.use(name)
        house.residency.leave(name)
    monkeypatch.setattr(tenant, "MIN_STAY", 60.0)
    for name in "abc":
        house.enter(name)
    house.settle()
    assert house.in_slots == {"a", "b"}
    assert house.use("a") != house.use("b")


def test_adapters_reach_their_slots_with_room_for_one_in_host_memory() -> None:
    house = House(num_slots=3, host_memory=1)
    gates = [house.source.hold(name) for name in "abc"]
    for name in "abc":
        house.enter(name)
    for gate in gates:
        gate.set()
    while house.residency._newcomers._loader._done.qsize() < 3:
        time.sleep(0.001)
    assert len({house.use(name) for name in "abc"}) == 3
    house.residency.stop()


def test_a_pinned_adapter_stays(house: House) -> None:
    house.residency.pin(AdapterRef("a", "a"))
    house.arrive("b", "c", "d")
    assert "a" in house.in_slots
    assert [r.digest for r in house.residency.residents() if r.pinned] == ["a"]


def test_pinning_keeps_an_adapter_that_was_about_to_leave(house: House) -> None:
    house.use("a")
    house.use("b")
    house.enter("c")
    house.settle(until=lambda: not house.residency.is_resident("a"))
    house.enter("a")
    house.residency.pin(AdapterRef("a", "a"))
    assert house.enter("a") is not None
    assert house.loading == ("c",)


def test_when_every_slot_is_pinned_the_error_says_so(house: House) -> None:
    for name in "ab":
        house.residency.pin(AdapterRef(name, name))
        house.arrive(name)
    house.enter("c")
    assert "all 2 are pinned" in house.failure("c").message
    assert not house.residency.is_moving


def test_a_slot_that_is_being_filled_is_not_taken_for_pinned(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house.slots, "has_arrived", lambda _: False)
    for name in "abc":
        house.enter(name)
    house.settle(until=lambda: len(house.in_host) == 3)
    house.settle()
    assert not house.residency.failures
    monkeypatch.setattr(house.slots, "has_arrived", lambda _: True)
    house.use("a")
    house.use("b")
    house.residency.leave("a")
    house.use("c")


def test_a_pin_that_found_no_slot_is_not_remembered(house: House) -> None:
    for name in "abc":
        house.residency.pin(AdapterRef(name, name))
        house.settle(until=lambda: not house.residency.is_moving)
    house.residency.unload("a")
    house.arrive("c")
    assert [r.digest for r in house.residency.residents() if r.pinned] == ["b"]


def test_unloading_frees_slot_and_host_copy(house: House) -> None:
    house.arrive("a")
    assert house.residency.unload("a")
    assert house.residency.is_gone("a")
    assert house.residency.residents() == ()
    house.arrive("b", "c")
    assert house.in_slots == {"b", "c"}
    house.arrive("a")
    assert house.source.loads == ["a", "b", "c", "a"]


def test_unloading_frees_the_copy_of_one_that_is_in_no_slot(house: House) -> None:
    house.arrive("a", "b", "c")
    assert house.in_host == {"a"}
    assert house.residency.unload("a")
    assert house.in_host == set()


def test_unloading_what_is_not_there_says_so(house: House) -> None:
    assert not house.residency.unload("a")


def test_unloading_waits_for_the_last_sequence(house: House) -> None:
    house.use("a")
    house.use("a")
    assert house.residency.unload("a")
    for _ in range(2):
        house.settle()
        assert not house.residency.is_gone("a")
        assert house.in_slots == {"a"}
        house.residency.leave("a")
    house.settle()
    assert house.residency.is_gone("a")


def test_unloading_comes_to_an_end_though_newcomers_bring_the_adapter_back(house: House) -> None:
    house.use("a")
    house.residency.unload("a")
    assert house.enter("a") is None
    house.settle(until=lambda: "a" in [r.digest for r in house.residency._newcomers.host])
    house.residency.leave("a")
    house.settle()
    assert house.residency.is_gone("a")
    house.use("a")


def test_unloading_stops_a_load_under_way(house: House) -> None:
    gate = house.source.hold("a")
    house.enter("a")
    assert house.residency.unload("a")
    gate.set()
    house.settle(until=lambda: not house.residency.is_moving)
    assert house.residency.residents() == ()


def test_one_that_nobody_waits_for_any_longer_is_not_brought(house: House) -> None:
    house.arrive("a", "b")
    gate = house.source.hold("c")
    house.enter("c")
    house.residency.unwant("c")
    assert house.loading == ()
    gate.set()
    house.settle(until=lambda: not house.residency.is_moving)
    assert house.in_slots == {"a", "b"}


def test_one_that_nobody_waits_for_any_longer_is_not_even_read(house: House) -> None:
    busy = [f"busy{n}" for n in range(loader.NUM_THREADS)]
    gates = [house.source.hold(name) for name in busy]
    for name in (*busy, "gone"):
        house.enter(name)
    house.residency.unwant("gone")
    for gate in gates:
        gate.set()
    house.settle(until=lambda: not house.residency._newcomers._loader.is_busy)
    assert sorted(house.source.loads) == busy


@pytest.mark.parametrize("ask", [Residency.want, Residency.pin])
def test_one_that_was_asked_for_comes_though_no_sequence_waits_for_it(
    ask: Callable[[Residency, AdapterRef], None], house: House
) -> None:
    house.enter("a")
    ask(house.residency, AdapterRef("a", "a"))
    house.residency.unwant("a")
    house.settle(until=lambda: house.in_slots == {"a"})
    house.residency.unload("a")
    house.enter("a")
    house.residency.unwant("a")  # what was asked for once has come, and counts no more
    assert not house.loading


def test_a_busy_slot_opens_again_when_nobody_waits_for_it_any_longer(house: House) -> None:
    house.use("a")
    house.use("b")
    house.enter("c")
    house.settle(until=lambda: not house.residency.is_resident("a"))
    assert house.enter("a") is None
    house.residency.unwant("c")
    house.settle()
    assert house.enter("a") is not None
    assert not house.residency.is_moving


def test_unloading_goes_on_when_nobody_waits_for_the_slot_any_longer(house: House) -> None:
    house.use("a")
    house.use("b")
    house.enter("c")
    house.settle(until=lambda: not house.residency.is_resident("a"))
    house.residency.unload("a")
    house.residency.unwant("c")
    house.settle()
    assert house.enter("a") is None


def test_a_failure_is_known_for_one_step_and_then_forgotten(house: House) -> None:
    house.source.broken["a"] = AdapterLoadError("the file is cut off")
    house.enter("a")
    assert house.failure("a").message == "the file is cut off"
    assert not house.residency.is_moving
    house.settle()
    assert not house.residency.failures
    del house.source.broken["a"]
    house.arrive("a")


def test_wanting_an_adapter_again_does_not_meet_its_old_failure(house: House) -> None:
    house.source.broken["a"] = AdapterLoadError("the file is cut off")
    house.enter("a")
    house.failure("a")
    house.residency.want(AdapterRef("a", "a"))
    assert not house.residency.failures


def test_whatever_a_source_raises_becomes_a_load_error(house: House) -> None:
    house.source.broken["a"] = ZeroDivisionError("odd")
    house.enter("a")
    assert "the server's log" in house.failure("a").message


def test_one_that_cannot_be_loaded_does_not_keep_its_place_or_its_pin(house: House) -> None:
    house.source.broken["a"] = AdapterLoadError("no")
    house.residency.pin(AdapterRef("a", "a"))
    house.failure("a")
    del house.source.broken["a"]
    house.arrive("a")
    assert not any(r.pinned for r in house.residency.residents())


def test_a_slow_load_does_not_hold_up_one_that_is_in_host_memory(house: House) -> None:
    house.arrive("a", "b", "c")
    house.source.hold("slow")
    house.enter("slow")
    house.use("a")
    assert house.loading == ("slow",)


def test_a_slow_load_does_not_hold_up_one_that_has_to_be_read(house: House) -> None:
    house.source.hold("slow")
    house.enter("slow")
    house.use("a")
    assert house.loading == ("slow",)


def test_one_that_lost_its_host_copy_is_read_again_beside_a_slow_load() -> None:
    house = House(num_slots=2, host_memory=1)
    house.use("a")
    house.use("b")
    house.enter("c")
    house.settle(until=lambda: "c" in house.in_host)
    house.enter("d")
    house.settle(until=lambda: "d" in house.in_host)  # and "c" had to go for it
    gate = house.source.hold("slow")
    house.enter("slow")
    house.residency.leave("a")
    house.use("c")
    gate.set()
    house.residency.stop()


def test_the_host_cache_lets_the_least_recently_used_go() -> None:
    cache = HostCache(capacity=2 * NBYTES)
    for name in "ab":
        cache.put(packed(name))
    cache.get("a")
    cache.put(packed("c"))
    assert {adapter.digest for adapter in cache} == {"a", "c"}
    assert cache.nbytes == 2 * NBYTES


def test_the_host_cache_holds_one_however_large_it_is() -> None:
    cache = HostCache(capacity=1)
    cache.put(packed("a"))
    assert cache.get("a") is not None
