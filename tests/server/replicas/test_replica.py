"""A replica is told to leave at whatever moment of its start."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing
from typing import cast

import pytest

from server.replicas.handover import Order, receive
from server.replicas.replica import Replica
from server.supervision import Child

pytestmark = pytest.mark.anyio

PATIENCE = 60.0  # seconds until what does not come counts as broken


class DeafChild:
    """Heeds no signal any more, and has not been heard to say that it serves."""

    def __init__(self) -> None:
        self.is_heard = asyncio.Event()
        self.num_signals = 0

    async def serving(self) -> None:
        await self.is_heard.wait()

    def terminate(self) -> None:
        self.num_signals += 1


async def test_one_that_ignores_the_signal_already_is_ordered_to_leave() -> None:
    ours, theirs = socket.socketpair()
    child = DeafChild()
    with closing(ours), closing(theirs):
        theirs.settimeout(PATIENCE)
        replica = Replica(0, cast("Child", child), ours, {}, lambda _: None)
        starting = asyncio.create_task(replica.serving())
        await asyncio.sleep(0)
        replica.terminate()
        child.is_heard.set()
        await starting
        assert child.num_signals == 1
        assert await asyncio.to_thread(receive, theirs) is Order.LEAVE
