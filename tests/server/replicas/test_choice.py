"""Which replica answers, and where replicas run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from server.errors import StartupError
from server.replicas import find_places
from server.replicas.choice import choose
from server.replicas.holding import Holding, Level


@dataclass
class Candidate:
    number: int
    num_open: int = 0
    num_free: int = 0
    levels: Mapping[str, Level] = field(default_factory=dict)

    def level_of(self, model: str) -> Level:
        return self.levels.get(model, Level.COLD)


def test_a_slot_is_nearer_than_host_memory_which_is_nearer_than_a_free_slot() -> None:
    slot, host = Candidate(0, 3, levels={"a": Level.SLOT}), Candidate(1, levels={"a": Level.HOST})
    free = Candidate(2, num_free=9)
    assert choose("a", [free, host, slot]) is slot
    assert choose("a", [free, host]) is host
    assert choose("b", [host, free]) is free


def test_of_several_that_hold_it_the_least_busy_answers() -> None:
    both = [Candidate(number, num_open=3 - number, levels={"a": Level.SLOT}) for number in (0, 1)]
    assert choose("a", both) is both[1]


def test_one_that_is_far_busier_is_passed_by() -> None:
    holder, idle = Candidate(0, levels={"a": Level.SLOT}), Candidate(1)
    given: Counter[int] = Counter()
    for _ in range(100):
        chosen = choose("a", [holder, idle])
        chosen.num_open += 1
        given[chosen.number] += 1
    assert holder.num_open < 1.25 * 50 + 5
    assert idle.num_open > 30


def test_adapters_beyond_the_slots_are_shared_out_by_name() -> None:
    replicas = [Candidate(number) for number in range(4)]
    names = [f"task{number}" for number in range(400)]
    first = {name: choose(name, replicas).number for name in names}
    assert all(70 < count < 130 for count in Counter(first.values()).values())
    assert {choose(f"{name}@7", replicas).number == first[name] for name in names} == {True}
    left = [replica for replica in replicas if replica.number != 2]
    moved = [name for name in names if choose(name, left).number != first[name]]
    assert {first[name] for name in moved} == {2}  # the others stay where they are


def test_a_holding_is_read_from_what_a_server_exports() -> None:
    holding = Holding.read(
        'vllm:num_requests_running{model_name="base"} 0.0\n'
        'vllm:lora_requests_info{max_lora="5",running_lora_adapters="a@1,a",'
        'waiting_lora_adapters="b@2"} 1.7e+09\n'
        'vllm:lora_adapter_loaded{adapter_name="c@1",level="cpu",pinned="false",rank="4"} 1.0\n'
        "vllm:num_gpu_loaded_lora_adapters 1.0\nvllm:max_gpu_lora_adapters 4.0\n"
    )
    found = {name: holding.level_of(name) for name in ("base", "a", "a@1", "b@2", "c@1", "d")}
    assert list(found.values()) == [Level.SLOT] * 4 + [Level.HOST, Level.COLD]
    assert holding.num_free == 3


def test_each_replica_has_a_gpu_of_those_that_are_visible() -> None:
    places = find_places(2, "auto", {"CUDA_VISIBLE_DEVICES": "3,GPU-5ef2,7"})
    assert [place.device for place in places] == ["cuda", "cuda"]
    assert [place.environ["CUDA_VISIBLE_DEVICES"] for place in places] == ["3", "GPU-5ef2"]


def test_gpus_are_counted_by_their_device_nodes(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "null"):
        (tmp_path / name).touch()
    places = find_places(2, "cuda", {}, tmp_path)
    assert [dict(place.environ) for place in places] == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "1"},
    ]
    with pytest.raises(StartupError, match="2 can be seen"):
        find_places(3, "auto", {}, tmp_path)


def test_without_gpus_replicas_share_the_cores(tmp_path: Path) -> None:
    places = find_places(2, "auto", {}, tmp_path)
    assert {place.device for place in places} == {"cpu"}
    assert all(int(place.environ["OMP_NUM_THREADS"]) >= 1 for place in places)
    assert find_places(2, "auto", {"CUDA_VISIBLE_DEVICES": "-1"})[0].device == "cpu"
    assert find_places(2, "cpu", {"OMP_NUM_THREADS": "3"}, tmp_path)[0].environ == {
        "OMP_NUM_THREADS": "3"
    }


def test_replicas_are_not_run_on_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="CUDA_VISIBLE_DEVICES"):
        find_places(2, "cuda", {"CUDA_VISIBLE_DEVICES": ""}, tmp_path)
