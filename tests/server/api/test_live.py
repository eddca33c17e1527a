"""The app behind a real uvicorn: the official client, and sockets that close."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time

import openai
import pytest

from server.errors import QueueFull
from tests.server.api.fakes import LiveServer
from tests.support.waiting import PATIENCE, eventually

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def sync_client(live: LiveServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)


def test_chat(sync_client: openai.OpenAI) -> None:
    with sync_client:
        raw = sync_client.chat.completions.with_raw_response.create(
            model="sql@2", messages=HI, temperature=0, logprobs=True, top_logprobs=1
        )
    answer = raw.parse()
    assert raw.headers["x-hatstand-adapter"] == "sql@2"
    assert answer._request_id == raw.headers["x-request-id"]
    assert answer.choices[0].message.content == "Hello world"  # its hat allows 3 tokens
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].logprobs.content[0].top_logprobs[0].token == "?"
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    assert answer.system_fingerprint.startswith("base-")


def test_stream(sync_client: openai.OpenAI) -> None:
    with sync_client:
        chunks = list(
            sync_client.chat.completions.create(
                model="sql", messages=HI, stream=True, stream_options={"include_usage": True}
            )
        )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert text == "Hello world!"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage.completion_tokens == 4


def test_stream_helper(sync_client: openai.OpenAI) -> None:
    with sync_client, sync_client.chat.completions.stream(model="sql", messages=HI) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "Hello world!"


def test_completions_and_models(sync_client: openai.OpenAI) -> None:
    with sync_client:
        answer = sync_client.completions.create(model="pirate", prompt=[[1, 2], [3]], logprobs=1)
        models = [model.id for model in sync_client.models.list()]
        one = sync_client.models.retrieve("sql@prod")
    assert [choice.text for choice in answer.choices] == ["Hello world!"] * 2
    assert models == ["tiny-mistral", "sql", "sql@prod", "pirate"]
    assert one.id == "sql@prod"


def test_vllm_extras(live: LiveServer, sync_client: openai.OpenAI) -> None:
    extra = {"top_k": 5, "min_p": 0.1, "return_token_ids": True}
    with sync_client:
        answer = sync_client.chat.completions.create(model="sql", messages=HI, extra_body=extra)
    assert answer.to_dict()["choices"][0]["token_ids"] == [0, 1, 2, 3]
    assert live.site.engine.requests[0].params.top_k == 5


def test_errors_become_the_clients_exceptions(live: LiveServer, sync_client: openai.OpenAI) -> None:
    def ask(model: str = "sql", **extra: object) -> None:
        sync_client.chat.completions.create(model=model, messages=HI, **extra)

    with sync_client:
        with pytest.raises(openai.NotFoundError) as missing:
            ask("sq1")
        assert missing.value.code == "adapter_not_found"
        with pytest.raises(openai.ConflictError):
            ask("odd")
        with pytest.raises(openai.BadRequestError) as bad:
            ask(temperature=9)
        assert bad.value.param == "temperature"
        live.site.engine.admission_error = QueueFull("full", retry_after=3)
        with pytest.raises(openai.RateLimitError) as full:
            ask(stream=True)
        assert full.value.response.headers["retry-after"] == "3"
        live.site.engine.admission_error = None
        live.site.engine.error_after = (1, RuntimeError("no"))
        with pytest.raises(openai.InternalServerError):
            ask()
        with pytest.raises(openai.APIError, match="mistake"):
            list(sync_client.chat.completions.create(model="sql", messages=HI, stream=True))


@pytest.mark.anyio
async def test_async_client(live: LiveServer) -> None:
    async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        stream = await client.chat.completions.create(model="sql", messages=HI, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == "Hello world!"


@pytest.mark.parametrize("stream", [False, True])
def test_closed_socket_aborts_the_sequence(live: LiveServer, stream: bool) -> None:
    engine = live.site.engine
    engine.gate = asyncio.Event()  # the second token never comes
    closed_after_first_bytes(live, stream=stream)
    assert len(engine.aborted) == 1
    eventually(lambda: live.site.readiness.num_in_flight == 0)


def closed_after_first_bytes(live: LiveServer, *, stream: bool) -> None:
    """Ask, close the socket once the sequence runs, and wait until it does no more."""
    engine = live.site.engine
    body = json.dumps({"model": "pirate", "messages": HI, "stream": stream}).encode()
    with socket.create_connection(("127.0.0.1", live.port), timeout=PATIENCE) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        if stream:
            assert b"text/event-stream" in connection.recv(4096)
        eventually(lambda: engine.num_running == 1)
    eventually(lambda: engine.num_running == 0)


def test_many_streams_dropped_leave_nothing(live: LiveServer) -> None:
    engine = live.site.engine
    engine.words = ("a", *["b"] * 40)
    engine.delay = 0.02
    body = json.dumps({"model": "pirate", "messages": HI, "stream": True}).encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"

    def open_and_drop(index: int) -> None:
        with socket.create_connection(("127.0.0.1", live.port), timeout=PATIENCE) as connection:
            connection.sendall(request % (len(body), body))
            time.sleep(0.01 * (index % 7))

    threads = [threading.Thread(target=open_and_drop, args=(index,)) for index in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: engine.num_running == 0 and live.site.readiness.num_in_flight == 0)
