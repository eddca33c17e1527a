"""Steps beside the host: the same tokens as steps at once, one step later."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from server.engine.device_executor import DeviceExecutor
from server.errors import StartupError
from server.kernels.triton.room import ROOM
from server.kernels.triton.twins import adapted_product as twin
from tests.support.serving import Driver, make_engine
from tests.support.tiny import TinyAdapter

NAMES = (None, "a", "b", "c", "d")


def prompt(number: int, length: int) -> list[int]:
    source = random.Random(number)
    return [source.randrange(256) for _ in range(length)]


JOBS = [(NAMES[n % 5], prompt(n, 3 + 7 * n)) for n in range(11)]


def say_all(driver: Driver, **params: Any) -> list[tuple[list[int], str]]:
    ids = [driver.submit(tokens, name, max_tokens=20, **params) for name, tokens in JOBS]
    driver.run()
    assert not driver.errors
    driver.engine.check_idle()
    return [(driver.tokens(request_id), driver.text(request_id)) for request_id in ids]


@pytest.fixture(scope="module")
def direct(tiny_base: Path, tiny_adapters: dict[str, Path]) -> Driver:
    return Driver(make_engine(tiny_base, tiny_adapters, chunk=24))


@pytest.fixture
def fused(tiny_base: Path, tiny_adapters: dict[str, Path]) -> Driver:
    return Driver(make_engine(tiny_base, tiny_adapters, chunk=24, fused=True))


def test_any_mix_says_what_it_says_step_by_step(direct: Driver, fused: Driver) -> None:
    assert isinstance(fused.engine._executor, DeviceExecutor)
    assert say_all(fused) == say_all(direct)


def test_fewer_slots_than_adapters(
    direct: Driver, tiny_base: Path, tiny_adapters: dict[str, Path]
) -> None:
    few = Driver(make_engine(tiny_base, tiny_adapters, chunk=24, fused=True, max_slots=2))
    assert say_all(few) == say_all(direct)
    assert few.engine.stats().num_adapter_evictions > 0


def test_when_blocks_run_out(
    direct: Driver, tiny_base: Path, tiny_adapters: dict[str, Path]
) -> None:
    limits = {"block_size": 4, "kv_memory": 72 << 10}
    small = make_engine(tiny_base, tiny_adapters, chunk=24, fused=True, **limits)
    driver = Driver(small)
    assert say_all(driver) == say_all(direct)
    assert small.stats().num_preemptions > 0


def test_more_prompts_at_once_than_a_recorded_pass_takes(
    tiny_base: Path, tiny_adapters: dict[str, Path]
) -> None:
    many = [(NAMES[n % 5], prompt(n, 5 + n)) for n in range(25)]
    said = []
    for fused in (False, True):
        driver = Driver(make_engine(tiny_base, tiny_adapters, chunk=512, fused=fused))
        ids = [driver.submit(tokens, name, max_tokens=6) for name, tokens in many]
        driver.run()
        said.append([driver.tokens(request_id) for request_id in ids])
    assert said[0] == said[1]


def test_prompts_of_one_adapter_have_it_inside_their_products(
    tiny_base: Path, tiny_adapters: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    original = twin.adapted_product

    def adapted_product(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        passes.append(len(x))
        return original(x, *rest)

    monkeypatch.setattr(twin, "adapted_product", adapted_product)
    wide = TinyAdapter("wide", rank=ROOM // 3 + 1).write(tiny_base, tmp_path / "wide")
    adapters = {**tiny_adapters, "wide": wide}
    said: list[list[list[int]]] = []
    for fused in (False, True):
        limits = {"weights": "nf4", "chunk": 24, "max_rank": 32, "fused": fused}
        driver = Driver(make_engine(tiny_base, adapters, **limits))
        said.append([])
        for number, name in enumerate((*NAMES, "wide")):
            passes.clear()
            request_id = driver.submit(prompt(number, 40), name, max_tokens=6)
            driver.run()
            said[-1].append(driver.tokens(request_id))
            assert bool(passes) == (fused and name != "wide")
    assert said[0] == said[1]


def test_what_only_the_host_can_choose_is_chosen_there(direct: Driver, fused: Driver) -> None:
    params: dict[str, Any] = {"repetition_penalty": 1.3, "logit_bias": {65: 2.0}}
    assert say_all(fused, **params) == say_all(direct, **params)


def test_log_probabilities_come_with_their_tokens(direct: Driver, fused: Driver) -> None:
    lists = []
    for driver in (direct, fused):
        others = [driver.submit(tokens, name, max_tokens=20) for name, tokens in JOBS]
        request_id = driver.submit(prompt(50, 20), "a", max_tokens=8, logprobs=3)
        driver.run()
        assert all(len(driver.tokens(other)) == 20 for other in others)
        lists.append([delta.logprobs[0] for delta in driver.deltas[request_id]])
    for ours, theirs in zip(*lists, strict=True):
        assert ours.token_id == theirs.token_id
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)
        assert [top[0] for top in ours.top] == [top[0] for top in theirs.top]


def test_a_seed_draws_the_same_alone_and_in_company(fused: Driver) -> None:
    def submit() -> str:
        return fused.submit(prompt(9, 30), "a", max_tokens=24, temperature=1.0, seed=7, top_p=0.9)

    alone = submit()
    fused.run()
    others = [fused.submit(p, name, max_tokens=24, temperature=0.8) for name, p in JOBS]
    again = submit()
    fused.run()
    assert fused.tokens(again) == fused.tokens(alone)
    assert len({tuple(fused.tokens(other)) for other in others}) == len(others)


def test_an_end_is_noticed_one_step_late_and_nothing_of_it_is_heard(
    direct: Driver, fused: Driver
) -> None:
    texts = []
    for driver in (direct, fused):
        probe = driver.submit(prompt(1, 12), "b", max_tokens=20)
        driver.run()
        stop = driver.tokens(probe)[9]
        request_id = driver.submit(
            prompt(1, 12), "b", max_tokens=20, stop_token_ids=(stop,), min_tokens=0
        )
        driver.run()
        driver.engine.check_idle()
        texts.append((driver.tokens(request_id), driver.text(request_id)))
        last = driver.deltas[request_id][-1]
        assert (last.finish_reason, last.stop_reason) == ("stop", stop)
    assert texts[0] == texts[1]


def test_min_tokens_are_kept_and_the_rest_is_drawn_on_the_device(
    direct: Driver, fused: Driver
) -> None:
    said = [say_all(driver, min_tokens=5) for driver in (direct, fused)]
    assert said[0] == said[1]


def test_aborting_while_a_step_is_under_way_frees_everything(fused: Driver) -> None:
    ids = [fused.submit(tokens, name, max_tokens=50) for name, tokens in JOBS]
    for _ in range(6):
        fused.step()
    for request_id in ids:
        fused.engine.abort(request_id)
    fused.run()
    fused.engine.check_idle()


def test_the_next_step_is_launched_before_this_one_is_read(fused: Driver) -> None:
    request_id = fused.submit(prompt(3, 10), max_tokens=10)
    fused.step()
    assert fused.deltas[request_id] == []
    fused.step()
    assert len(fused.deltas[request_id]) == 1
    fused.run()
    assert fused.engine.stats().num_generated_tokens == 10  # no step ran in vain


def test_keys_and_values_in_eight_bits_say_almost_the_same(
    direct: Driver, tiny_base: Path, tiny_adapters: dict[str, Path]
) -> None:
    limits = {"fused": True, "kv_memory": 1 << 20}
    small = Driver(make_engine(tiny_base, tiny_adapters, fp8_kv=True, **limits))
    whole = Driver(make_engine(tiny_base, tiny_adapters, **limits))
    assert small.engine.stats().num_blocks > 3 * whole.engine.stats().num_blocks
    firsts = [tokens[0] for tokens, _ in say_all(small)]
    expected = [tokens[0] for tokens, _ in say_all(direct)]
    assert sum(a == b for a, b in zip(firsts, expected, strict=True)) >= len(JOBS) // 2
    with pytest.raises(StartupError, match="needs a GPU"):
        make_engine(tiny_base, fp8_kv=True)
