"""The senders, against a real server with a fake engine."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Iterator

import httpx
import pytest

from clients import AsyncHatstand, Hatstand
from clients.errors import ConnectionFailed, NotFound, RateLimited, RequestTimedOut, StreamFailed
from server.errors import QueueFull
from tests.server.api.fakes import LiveServer, make_site


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    with LiveServer(make_site()) as server:
        yield server


@pytest.fixture
def client(live: LiveServer) -> Iterator[Hatstand]:
    with Hatstand(live.url, retries=0) as client:  # what is asked again: test_retries.py
        yield client


def test_chat(client: Hatstand) -> None:
    answer = client.chat("sql@2", "hi", temperature=0)
    assert (answer.text, answer.adapter, answer.finish_reason) == ("Hello world", "sql@2", "length")
    assert answer.digest.startswith("sha256:")
    assert answer.usage.completion == 3


def test_stream(client: Hatstand) -> None:
    with client.stream("sql", "hi") as stream:
        assert stream.adapter == "sql@1"
        events = list(stream)
    assert "".join(event.text for event in events) == "Hello world!"
    assert [event.finish_reason for event in events if event.finish_reason] == ["stop"]
    assert events[-1].usage is not None
    assert events[-1].usage.completion == 4


def test_complete_and_models(client: Hatstand) -> None:
    assert client.complete("pirate", [1, 2, 3]).usage.prompt == 3
    base, *adapters = client.models()
    assert base.is_base
    assert [model.id for model in adapters] == ["sql", "sql@prod", "pirate"]
    assert adapters[0].root == "sql@1"


def test_embed(client: Hatstand) -> None:
    found = client.embed("sql", ["ab", "c"], dimensions=2)
    assert (found.adapter, found.num_tokens) == ("sql@1", 3)
    for text, vector in zip("ac", found.vectors, strict=True):
        angle = ord(text) / 1000
        assert vector == pytest.approx((math.cos(angle), math.sin(angle)))
    (last,) = client.embed("sql", "a", pooling="last").vectors
    assert last[:2] == pytest.approx(tuple(reversed(found.vectors[0])))


@pytest.mark.anyio
async def test_embed_asynchronously(live: LiveServer) -> None:
    async with AsyncHatstand(live.url) as client:
        found = await client.embed("sql*0.7+pirate*0.3", "ab")
    assert (found.adapter, len(found.vectors[0])) == ("pirate@1*0.3+sql@1*0.7", 8)


def test_several_adapters_at_once(client: Hatstand) -> None:
    answer = client.chat("sql@2*0.7+pirate*-1", "hi")
    assert answer.adapter == "pirate@1*-1.0+sql@2*0.7"
    assert client.complete("sql@2*1.0", "hi").adapter == "sql@2"
    for name in ("sql+pirate", "sql*", "sql*x", "*1"):
        with pytest.raises(NotFound):
            client.complete(name, "hi")


def test_load_and_unload(client: Hatstand) -> None:
    assert client.load("pirate", pin=True).startswith("Success: ")
    assert client.unload("pirate").startswith("Success: ")
    with pytest.raises(NotFound, match="not loaded"):
        client.unload("pirate")


def test_refusals(live: LiveServer, client: Hatstand) -> None:
    with pytest.raises(NotFound, match="'sql'") as missing:
        client.chat("sq1", "hi")
    assert missing.value.code == "adapter_not_found"
    live.site.engine.admission_error = QueueFull("full", retry_after=4)
    try:
        with pytest.raises(RateLimited) as full, client.stream("sql", "hi"):
            pass
    finally:
        live.site.engine.admission_error = None
    assert full.value.retry_after == 4


def test_a_stream_that_ends_without_its_last_line_is_no_answer() -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "half"}, "finish_reason": None}]}
    body = f"data: {json.dumps(chunk)}\n\n"  # as a proxy may end it when the server has died
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text=body))
    with Hatstand("http://x", transport=transport) as client, client.stream("a", "hi") as stream:
        assert next(iter(stream)).text == "half"
        with pytest.raises(StreamFailed, match="whole"):
            list(stream)


@pytest.mark.anyio
async def test_nor_is_one_that_is_read_asynchronously() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text=": ping\n\n"))
    async with (
        AsyncHatstand("http://x", transport=transport) as client,
        client.stream("a", "hi") as stream,
    ):
        with pytest.raises(StreamFailed, match="whole"):
            [event async for event in stream]


def test_broken_streams(live: LiveServer, client: Hatstand) -> None:
    live.site.engine.error_after = (2, RuntimeError("no"))
    try:
        with pytest.raises(StreamFailed, match="mistake"), client.stream("sql", "hi") as stream:
            list(stream)
    finally:
        live.site.engine.error_after = None


@pytest.mark.anyio
async def test_async(live: LiveServer) -> None:
    async with AsyncHatstand(live.url) as client:
        assert (await client.chat("sql", "hi")).text == "Hello world!"
        async with client.stream("sql", "hi") as stream:
            text = "".join([event.text async for event in stream])
        assert text == "Hello world!"
        assert (await client.complete("sql", "x")).adapter == "sql@1"
        assert (await client.models())[0].is_base
        await client.load("sql")
        await client.unload("sql")
        with pytest.raises(NotFound):
            await client.chat("nobody", "hi")


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with Hatstand(url) as client, pytest.raises(ConnectionFailed, match="hatstand serve"):
        client.models()


def test_timeouts_and_keys() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        raise httpx.ReadTimeout("slow")

    client = Hatstand("http://x/", api_key="secret-key", transport=httpx.MockTransport(answer))
    with client, pytest.raises(RequestTimedOut):
        client.models()
    assert seen[0].headers["authorization"] == "Bearer secret-key"
    assert "secret" not in repr(client)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
