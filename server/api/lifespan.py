"""What runs beside the requests of one server, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator

import anyio.to_thread

from registry.versions import Version
from server.canary.keeper import Keeper
from server.proof import ReceiptGate

from .parts import Parts


@contextlib.asynccontextmanager
async def lifespan(parts: Parts, gate: ReceiptGate | None) -> AsyncIterator[None]:
    """Load the pinned adapters beside serving; at the end, drain the engine and stop it."""
    beside = [
        asyncio.create_task(parts.readiness.load_pins(parts.models)),
        asyncio.create_task(_keeper(parts).run()),
    ]
    caring = contextlib.nullcontext() if parts.link is None else parts.link.cared_for()
    try:
        async with caring:
            yield
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        parts.readiness.begin_drain()
        if gate is not None:
            gate.stop()
        await parts.engine.drain(parts.settings.drain_timeout)
        await anyio.to_thread.run_sync(parts.engine.stop)
        parts.grammars.close()
        if parts.link is not None:
            parts.link.close()
        if parts.queue is not None:
            parts.queue.close()
        if parts.responses is not None:
            parts.responses.close()
        if parts.tracing is not None:
            await anyio.to_thread.run_sync(parts.tracing.close)


def _keeper(parts: Parts) -> Keeper:
    async def prepare(version: Version) -> None:
        admit = parts.models.admit  # may wait for a receipt's replay, which no shutdown does
        model = await anyio.to_thread.run_sync(admit, version, abandon_on_cancel=True)
        if model.adapter is not None:
            await parts.engine.load_adapter(model.adapter)

    return Keeper(
        arms=parts.arms,
        tally=parts.tally,
        registry=parts.registry,
        prepare=prepare,
        # Not what a process of the same number, started after this one, calls itself.
        holder=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
        interval=parts.settings.canary_interval,
    )
