"""What one taker gets of what is put: in order, at once, and as one where it was late."""

from __future__ import annotations

import asyncio

import pytest

from server.engine.outcomes import Outcomes
from server.engine.request import GenerationDelta, SequenceTimes
from server.errors import Unavailable

pytestmark = pytest.mark.anyio

TIMES = SequenceTimes(1.0, 0.0, 0.0, 2.0, None)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def delta(number: int, **more: object) -> GenerationDelta:
    return GenerationDelta(f" {number}", (number,), num_completion_tokens=number, **more)  # type: ignore[arg-type]


async def test_who_waits_gets_each_as_it_comes() -> None:
    outcomes = Outcomes()
    for number in range(3):
        taking = asyncio.create_task(outcomes.take())
        await asyncio.sleep(0)
        outcomes.put(delta(number))
        assert await taking == delta(number)


async def test_what_came_meanwhile_comes_as_one() -> None:
    outcomes = Outcomes()
    outcomes.put(delta(1, times=TIMES, num_prompt_tokens=5))
    outcomes.put(delta(2, num_prompt_tokens=5))
    outcomes.put(delta(3, num_prompt_tokens=5, finish_reason="length"))
    both = await outcomes.take()
    assert (both.text, both.token_ids) == (" 1 2 3", (1, 2, 3))
    assert (both.num_prompt_tokens, both.num_completion_tokens) == (5, 3)
    assert (both.times, both.finish_reason) == (TIMES, "length")


async def test_what_is_made_of_many_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    replace = GenerationDelta._replace

    def counted(gained: GenerationDelta, **changes: object) -> GenerationDelta:
        made.append(1)
        return replace(gained, **changes)  # type: ignore[arg-type]

    monkeypatch.setattr(GenerationDelta, "_replace", counted)
    outcomes = Outcomes()
    for number in range(1000):
        outcomes.put(delta(number))
    assert (await outcomes.take()).token_ids == tuple(range(1000))
    assert len(made) == 1


async def test_an_error_comes_after_what_was_said_before_it() -> None:
    outcomes = Outcomes()
    for outcome in (delta(1), delta(2), Unavailable("stopped")):
        outcomes.put(outcome)
    assert (await outcomes.take()).token_ids == (1, 2)
    with pytest.raises(Unavailable, match="stopped"):
        await outcomes.take()


async def test_who_was_cancelled_is_put_nothing_upon() -> None:
    outcomes = Outcomes()
    taking = asyncio.create_task(outcomes.take())
    await asyncio.sleep(0)
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    outcomes.put(delta(1))
    assert await outcomes.take() == delta(1)
