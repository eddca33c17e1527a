"""What clients hear while the serving process is being started again."""

from __future__ import annotations

import socket

import anyio.to_thread
import httpx
import pytest

from server.supervision import StandIn

pytestmark = pytest.mark.anyio


def url_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_requests_are_told_when_to_come_back(listener: socket.socket) -> None:
    async with (
        StandIn(listener, lambda: 6.2),
        httpx.AsyncClient(base_url=url_of(listener)) as client,
    ):
        answer = await client.post("/v1/chat/completions", content=b"x" * (1 << 20))
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "7"
        assert answer.json()["error"]["code"] == "unavailable"
        ready = await client.get("/readyz?verbose")
        assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
        assert (await client.get("/healthz")).status_code == 200


async def test_nonsense_and_silence_hold_nobody_up(listener: socket.socket) -> None:
    def say(words: bytes) -> socket.socket:
        client = socket.create_connection(listener.getsockname())
        client.sendall(words)
        return client

    async with StandIn(listener, lambda: 0.0), httpx.AsyncClient(base_url=url_of(listener)) as http:
        with say(b""), say(b"GET"), say(b"\r\n\r\n") as nonsense:
            assert (await http.get("/v1/models")).headers["retry-after"] == "1"
            reply = await anyio.to_thread.run_sync(nonsense.recv, 12)
            assert reply == b"HTTP/1.1 503"


async def test_the_listener_outlives_it(listener: socket.socket) -> None:
    async with StandIn(listener, lambda: 0.0):
        pass
    with socket.create_connection(listener.getsockname()) as client:
        async with StandIn(listener, lambda: 0.0):
            client.sendall(b"GET /readyz HTTP/1.1\r\n\r\n")
            assert (await anyio.to_thread.run_sync(client.recv, 12)) == b"HTTP/1.1 503"
