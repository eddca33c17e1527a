"""SIGKILL of a serving process under clients of every kind: each is told, and none is misled."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from clients import AsyncHatstand, Hatstand
from clients.errors import ServerFault, StreamFailed
from tests.server.last_words.serving import FEW, LONG, MANY, Server, running
from tests.server.replicas.processes import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts so")

CHAT: list[Any] = [{"role": "user", "content": "hi"}]
BODIES = {
    "/v1/chat/completions": {"model": "pirate", "messages": CHAT, "max_tokens": MANY},
    "/v1/completions": {"model": "pirate", "prompt": "hi", "max_tokens": MANY},
    "/v1/responses": {"model": "pirate", "input": "hi", "store": False, "max_output_tokens": MANY},
}
PATIENCE = 120.0  # seconds after which what does not come counts as broken
TOLD = {
    "message": "the engine stopped after an error; the server's log has the details",
    "type": "server_error",
    "param": None,
    "code": "unavailable",
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as server:
        yield server


def kill(server: Server) -> None:
    os.kill(server.child, signal.SIGKILL)


def test_every_stream_of_the_http_interface_ends_with_an_error_event(server: Server) -> None:
    eventually("nobody is there", lambda: server.num_copies == 0)
    before = server.num_files
    with ExitStack() as opened:
        client = opened.enter_context(httpx.Client(base_url=server.url, timeout=60))
        streams = []
        for path, body in BODIES.items():
            stream = client.stream("POST", path, json={**body, "stream": True})
            streams.append(opened.enter_context(stream).iter_lines())
        assert all(next(lines) for lines in streams)
        with ThreadPoolExecutor(len(BODIES)) as callers:
            asked = [callers.submit(ask, server, path, body) for path, body in BODIES.items()]
            eventually("all run", lambda: server.num_running() == 2 * len(BODIES))
            kill(server)
            for lines in streams:
                *_, last = (line for line in lines if line)
                assert json.loads(last.removeprefix("data: ")) == {"error": TOLD}
            for each in asked:
                answer = each.result()
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.json()["error"]["code"] == "unavailable"
    server.wait_ready()
    eventually("nothing is left", lambda: server.num_copies == 0 and server.num_files <= before)


def ask(server: Server, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, timeout=60)


async def from_openai(server: Server) -> str:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        stream = await client.chat.completions.create(
            model="pirate", messages=CHAT, max_tokens=MANY, stream=True
        )
        with pytest.raises(openai.APIError) as raised:
            await read(stream)
        assert not isinstance(raised.value, openai.APIConnectionError)
        return raised.value.message


async def from_openai_responses(server: Server) -> str:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        stream = await client.responses.create(
            model="pirate", input="hi", max_output_tokens=MANY, stream=True, store=False
        )
        with pytest.raises(openai.APIError) as raised:
            await read(stream)
        assert not isinstance(raised.value, openai.APIConnectionError)
        return raised.value.message


async def from_ours(server: Server) -> str:
    async with AsyncHatstand(server.url) as client:
        with pytest.raises(StreamFailed) as raised:
            async with client.stream("pirate", CHAT, max_tokens=MANY) as stream:
                await read(stream)
        return str(raised.value)


async def read(stream: AsyncIterable[Any]) -> None:
    async for _ in stream:
        pass


async def retried_by_openai(server: Server) -> int:
    """How many tokens the second answer has, for the first never came."""
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=100
    ) as client:
        chats = client.chat.completions
        answer = await chats.create(model="pirate", messages=CHAT, max_tokens=MANY)
        assert answer.usage is not None
        return answer.usage.completion_tokens


async def refused_by_ours(server: Server) -> int:
    async with AsyncHatstand(server.url, retries=0) as client:
        with pytest.raises(ServerFault) as raised:
            await client.chat("pirate", CHAT, max_tokens=MANY)
        return raised.value.status


def test_clients_raise_what_they_raise_for_an_error_event(server: Server) -> None:
    async def everybody() -> list[object]:
        async with asyncio.timeout(PATIENCE):
            calls = (
                from_openai,
                from_openai_responses,
                from_ours,
                retried_by_openai,
                refused_by_ours,
            )
            tasks = [asyncio.create_task(call(server)) for call in calls]
            while await asyncio.to_thread(server.num_running) < len(calls):
                await asyncio.sleep(0.02)
            server.have_the_next_be_brief()
            kill(server)
            return [await task for task in tasks]

    assert asyncio.run(everybody()) == [TOLD["message"]] * 3 + [FEW, 503]


def test_synchronous_clients_raise_the_same(server: Server) -> None:
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as official,
        official.chat.completions.create(
            model="pirate", messages=CHAT, max_tokens=MANY, stream=True
        ) as theirs,
        Hatstand(server.url) as ours,
        ExitStack() as opened,
    ):
        mine = opened.enter_context(ours.stream("pirate", CHAT, max_tokens=MANY))
        events, chunks = iter(mine), iter(theirs)
        assert next(chunks)
        assert next(events)
        kill(server)
        with pytest.raises(openai.APIError, match=TOLD["message"]) as raised:
            list(chunks)
        assert not isinstance(raised.value, openai.APIConnectionError)
        with pytest.raises(StreamFailed, match=TOLD["message"]):
            list(events)


def test_nobody_reads_on_after_half_a_chunk(server: Server) -> None:
    """Of each huge word a part is in the kernel, which its reader takes before the process dies."""
    body = {**BODIES["/v1/completions"], "prompt": LONG, "stream": True}
    request = httpx.Request("POST", f"{server.url}/v1/completions", json=body)
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(request.content)}"
    with ExitStack() as opened:
        readers = []
        for _ in range(4):
            reader = socket.socket()
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            opened.enter_context(reader).connect(("127.0.0.1", server.port))
            reader.sendall(head.encode() + b"\r\n\r\n" + request.content)
            readers.append(reader)
        taken = [until(reader, b"w" * 1000) for reader in readers]
        child = server.child
        os.kill(child, signal.SIGSTOP)
        for index, reader in enumerate(readers):
            reader.settimeout(0.5)  # seconds without anything: so much for the kernel's queue
            taken[index] += drained(reader)
        os.kill(child, signal.SIGKILL)
        for index, reader in enumerate(readers):
            reader.settimeout(60)
            taken[index] += drained(reader)
            assert taken[index].endswith(b"w" * 1000)


def until(reader: socket.socket, text: bytes) -> bytes:
    data = b""
    while not data.endswith(text):
        data += reader.recv(4096)
    return data


def drained(reader: socket.socket) -> bytes:
    """All that comes, until nothing does."""
    data = bytearray()
    with suppress(TimeoutError, ConnectionResetError):
        while piece := reader.recv(1 << 20):
            data += piece
    return bytes(data)


def test_no_copy_is_left_of_a_thousand_requests(server: Server) -> None:
    """Of whole ones, streams, aborted ones and pipelined ones."""
    eventually("all who asked whether it is ready have left", lambda: server.num_copies == 0)
    before = server.num_files
    body = {**BODIES["/v1/completions"], "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60) as stream:
        lines = stream.iter_lines()
        assert next(lines)
        eventually("this one has a copy", lambda: server.num_copies == 1)
        asyncio.run(traffic(server, random.Random(8), 1000))
        assert next(filter(None, lines))
    # A connection that was reset is no longer counted as one when its file is yet to be closed.
    eventually("no copy is left", lambda: server.num_copies == 0 and server.num_files <= before)


async def traffic(server: Server, chance: random.Random, count: int) -> None:
    places = asyncio.Semaphore(16)

    async def one(client: httpx.AsyncClient) -> None:
        path, body = chance.choice([*BODIES.items()])
        limit = "max_output_tokens" if "responses" in path else "max_tokens"
        is_stream, is_left = chance.random() < 0.5, chance.random() < 0.4
        values = {**body, "stream": is_stream, limit: MANY if is_left else 2}
        patience = chance.random() / 50 if is_left else 60
        headers = {"connection": chance.choice(["close", "keep-alive"])}
        async with places:
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await client.post(path, json=values, headers=headers)

    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        await asyncio.gather(*(one(client) for _ in range(count)))
    for closes in (b"close", b"keep-alive"):
        await asyncio.to_thread(pipelined, server, closes)


def pipelined(server: Server, connection: bytes) -> None:
    """Two requests in one go, answered one after the other."""
    first = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
    last = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: %b\r\n\r\n" % connection
    with socket.create_connection(("127.0.0.1", server.port)) as asking:
        asking.settimeout(60)
        asking.sendall(first + last)
        data = b""
        while data.count(b"HTTP/1.1 200 OK") < 2:
            data += asking.recv(1 << 16)
        assert data
