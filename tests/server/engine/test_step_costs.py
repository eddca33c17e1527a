"""What steps cost, learned from steps whose costs are known."""

from __future__ import annotations

import pytest

from server.engine.batch import Batch
from server.engine.config import EngineSettings
from server.engine.executor import Outcome
from server.engine.sampled import Sampled
from server.engine.step_costs import Line, StepCosts, StepWatch
from tests.server.engine.scheduled import Run
from tests.torture.simulation import CPU, Load, Simulation

ROW, FIXED = 0.0003, 0.004


def test_a_line_is_found_and_kept_while_all_steps_are_of_one_size() -> None:
    line = Line()
    for size in [1, 2, 5, 9, 17, 40, 100, *[16] * 1000]:
        line.note(size, FIXED + ROW * size)
    assert line.each == pytest.approx(ROW, rel=0.02)
    assert line.at(64) == pytest.approx(FIXED + ROW * 64, rel=0.02)


def test_a_step_that_was_held_up_tells_little() -> None:
    line = Line()
    for number in range(400):
        size = 1 + number % 32
        usual = FIXED + ROW * size
        line.note(size, 1.0 if number in (100, 250, 399) else usual)
    assert line.at(16) == pytest.approx(FIXED + ROW * 16, rel=0.05)


def test_what_was_made_ready_in_the_first_steps_is_no_cost_of_theirs() -> None:
    line = Line()
    for size in (1, 1, 3, 6, 12):  # each compiled or recorded for, and hardly seen since
        line.note(size, 1.0)
    for number in range(100):
        size = 16 + number % 48
        line.note(size, FIXED + ROW * size)
    assert line.each > ROW / 4  # rows do not come to look free
    assert line.at(24) == pytest.approx(FIXED + ROW * 24, rel=0.3)


def test_steps_that_come_to_last_longer_are_believed() -> None:
    line = Line()
    for each in (ROW, 1.5 * ROW):
        for number in range(16_000):
            size = 1 + number % 32
            line.note(size, FIXED + each * size)
    assert line.each == pytest.approx(1.5 * ROW, rel=0.02)


def test_while_one_size_is_known_every_token_counts_as_dear_as_the_mean_one() -> None:
    line = Line()
    line.note(8, 0.8)
    assert (line.fixed, line.each) == (pytest.approx(0), pytest.approx(0.1))


def test_nothing_is_free_and_nothing_is_won_by_more() -> None:
    line = Line()
    for size in (1, 100):
        line.note(size, 0.1 / size)
    assert line.each > 0
    assert line.fixed >= 0


def test_prompts_cost_what_a_step_takes_longer_with_them() -> None:
    costs = StepCosts()
    for rows in (1, 4, 30):
        costs.note(rows, 0, FIXED + ROW * rows)
    for tokens in (8, 100, 600):
        costs.note(10, tokens, FIXED + ROW * 10 + 0.001 + 0.00005 * tokens)
    assert costs.of(0, 300) == pytest.approx(0.016, rel=0.02)
    assert costs.of(20, 300) == pytest.approx(FIXED + ROW * 20 + 0.016, rel=0.02)
    assert costs.of(0, 0) == 0


class Device:
    """Steps of a second, one after the other, by a clock of their own."""

    lookahead, vocab_size, weight_bytes = 1, 1, 0

    def __init__(self) -> None:
        self.now, self._ready = 10.0, 0.0

    def launch(self, _: object) -> Outcome:
        self._ready = ready = max(self._ready, self.now) + 1.0

        def outcome() -> list[Sampled | None]:
            self.now = max(self.now, ready)
            return []

        return outcome


def one_that_decodes() -> Batch:
    run = Run()
    run.add(3)
    run.step()
    return run.step()


def test_a_step_that_was_launched_beside_another_begins_with_its_end() -> None:
    device, batch = Device(), one_that_decodes()
    watch = StepWatch(StepCosts(), clock=lambda: device.now)
    first, second = (watch.launch(device, batch) for _ in range(2))
    first()
    second()
    watch.rest()
    device.now += 60.0  # nobody asks
    watch.launch(device, batch)()
    assert device.now == 73.0
    assert watch.costs.of(1, 0) == pytest.approx(1.0)


def test_what_follows_a_step_counts_until_the_next_is_launched() -> None:
    device, batch = Device(), one_that_decodes()
    watch = StepWatch(StepCosts(), clock=lambda: device.now)
    for _ in range(3):
        watch.launch(device, batch)()
        device.now += 0.5  # its tokens are handed over
    assert watch.costs.of(1, 0) == pytest.approx(1.5)


def test_time_in_which_nobody_asks_is_no_steps() -> None:
    seldom = Simulation(Load(["a"], pause=3.0), EngineSettings(), CPU).run(40.0)
    costs = seldom.engine.fair_time._costs
    assert costs.of(1, 0) == pytest.approx(CPU.step + CPU.row, rel=0.01)
    assert costs.of(0, 3) == pytest.approx(CPU.step + 3 * CPU.prompt, rel=0.01)
