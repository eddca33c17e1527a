"""When the serving process is started again, and when it is given up."""

from __future__ import annotations

import asyncio

import pytest

from server.errors import EngineStopped, StartupError
from server.supervision import ChildEnded, Supervisor

pytestmark = pytest.mark.anyio


class FakeChild:
    """Serves, or fails to, and dies when it is told how."""

    def __init__(self, failure: Exception | None = None) -> None:
        self._failure = failure
        self._end: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def serving(self) -> None:
        if self._failure is not None:
            self.die(1)
            raise self._failure

    async def wait(self) -> int:
        return await asyncio.shield(self._end)

    def die(self, status: int) -> None:
        self._end.set_result(status)

    def terminate(self) -> None:
        if not self._end.done():
            self.die(0)

    def kill(self) -> None:
        if not self._end.done():
            self.die(-9)


class Nursery:
    """Starts children of which each fails as foreseen; None serves."""

    def __init__(self, *failures: Exception | None) -> None:
        self._failures = iter(failures)
        self.children: list[FakeChild] = []

    async def start(self) -> FakeChild:
        self.children.append(FakeChild(next(self._failures, None)))
        return self.children[-1]

    async def number(self, count: int) -> FakeChild:
        """The child of that number, once it is there."""
        while len(self.children) < count:
            await asyncio.sleep(0)
        return self.children[count - 1]


async def test_one_that_dies_is_followed_by_another() -> None:
    nursery = Nursery()
    supervisor = Supervisor(nursery.start)
    running = asyncio.create_task(supervisor.run())
    (await nursery.number(1)).die(-9)
    await nursery.number(2)
    supervisor.end()
    assert await running == 0
    assert len(nursery.children) == 2


async def test_one_that_leaves_in_peace_is_not_called_back() -> None:
    nursery = Nursery()
    running = asyncio.create_task(Supervisor(nursery.start).run())
    (await nursery.number(1)).die(0)
    assert await running == 0
    assert len(nursery.children) == 1


async def test_what_cannot_start_at_all_says_why() -> None:
    for failure in (StartupError("no such base"), ChildEnded("was ended by SIGKILL")):
        with pytest.raises(StartupError, match=str(failure)):
            await Supervisor(Nursery(failure).start).run()


async def test_later_a_failed_start_is_tried_again() -> None:
    missing = ModuleNotFoundError("it is being installed anew", name="torch")
    nursery = Nursery(None, StartupError("the device is not free yet"), ChildEnded("died"), missing)
    supervisor = Supervisor(nursery.start, first_pause=0)
    running = asyncio.create_task(supervisor.run())
    (await nursery.number(1)).die(-9)
    await nursery.number(5)
    supervisor.end()
    assert await running == 0


async def test_those_that_keep_dying_are_given_up() -> None:
    nursery = Nursery()
    supervisor = Supervisor(nursery.start, most_deaths=3, first_pause=0)
    running = asyncio.create_task(supervisor.run())
    for number in (1, 2, 3):
        (await nursery.number(number)).die(1)
    with pytest.raises(EngineStopped, match="3 times in a row"):
        await running
    assert len(nursery.children) == 3


async def test_after_a_long_life_a_death_is_the_first_again() -> None:
    nursery = Nursery()
    supervisor = Supervisor(nursery.start, steady=-1, most_deaths=2, first_pause=60)
    running = asyncio.create_task(supervisor.run())
    for number in range(1, 6):
        (await nursery.number(number)).die(1)
    await nursery.number(6)
    supervisor.end()
    assert await running == 0


async def test_told_to_end_between_two_starts_it_starts_no_more() -> None:
    nursery = Nursery(None, ChildEnded("died"))
    supervisor = Supervisor(nursery.start, first_pause=3600)
    running = asyncio.create_task(supervisor.run())
    (await nursery.number(1)).die(-9)
    await nursery.number(2)
    supervisor.end()
    assert await running == 1  # what the last one left with
    assert len(nursery.children) == 2
