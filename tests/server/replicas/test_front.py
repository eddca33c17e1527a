"""What the process that owns the socket makes of its replicas' answers."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import cast

import httpx
import pytest

from server.replicas.fleet import Fleet
from server.replicas.front import Front
from server.replicas.internal import Answer
from server.settings import ApiSettings

pytestmark = pytest.mark.anyio
SETTINGS = ApiSettings(request_timeout=500.0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Replica:
    """Answers with a status, or ends before it does (0)."""

    status: int

    async def ask(self, raw: bytes, *, within: float) -> Answer:
        assert b"lora_name" in raw
        assert within > SETTINGS.request_timeout  # as long as sequences that run there may take
        if not self.status:
            raise ConnectionError("it has ended")
        head = f"HTTP/1.1 {self.status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        return Answer(self.status, b"", head.encode())


class Replicas:
    """As much of a fleet as an unload looks at."""

    def __init__(self, *statuses: int) -> None:
        self.replicas = self.taking = [Replica(status) for status in statuses]


@pytest.mark.parametrize(
    ("statuses", "status"),
    [((404, 200), 200), ((404, 0, 200), 200), ((404, 504), 504), ((404, 404), 404), ((0, 0), 503)],
)
async def test_an_unload_is_answered_by_who_had_it(statuses: tuple[int, ...], status: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        front = Front(cast("Fleet", Replicas(*statuses)), SETTINGS)
        running = asyncio.create_task(front.run(listener))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/unload_lora_adapter"
        try:
            async with httpx.AsyncClient() as client:
                answer = await client.post(url, json={"lora_name": "sql"})
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    assert answer.status_code == status
