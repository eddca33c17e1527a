"""What the client asks again, and how long it waits."""

from __future__ import annotations

import httpx
import pytest

from clients import AsyncHatstand, Hatstand
from clients.errors import ConnectionFailed, RateLimited, RequestTimedOut, ServerFault

MODELS = {"data": [{"id": "tiny"}]}
Answer = httpx.Response | Exception


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client slept, without the sleeping."""
    slept: list[float] = []

    async def later(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("httpx_retries.retry.time.sleep", slept.append)
    monkeypatch.setattr("httpx_retries.retry.asyncio.sleep", later)
    return slept


def script(*answers: Answer) -> tuple[httpx.MockTransport, list[str]]:
    """A server that gives these answers in turn, and the methods that it was asked with."""
    left, asked = list(answers), list[str]()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        next_one = left.pop(0)
        if isinstance(next_one, Exception):
            raise next_one
        return next_one

    return httpx.MockTransport(answer), asked


def full(seconds: int) -> httpx.Response:
    return httpx.Response(429, headers={"retry-after": str(seconds)}, json={"error": {}})


def test_a_full_queue_is_asked_again_when_it_says(pauses: list[float]) -> None:
    transport, asked = script(full(3), full(7), httpx.Response(200, json=MODELS))
    with Hatstand("http://x", transport=transport) as client:
        assert [model.id for model in client.models()] == ["tiny"]
    assert asked == ["GET"] * 3
    assert pauses == [3, 7]


def test_patience_ends(pauses: list[float]) -> None:
    transport, asked = script(full(1), full(3600))
    client = Hatstand("http://x", retries=1, transport=transport)
    with client, pytest.raises(RateLimited) as refused:
        client.chat("tiny", "hi")
    assert refused.value.retry_after == 3600
    assert asked == ["POST", "POST"]
    transport, _ = script(full(3600), httpx.Response(200, json=MODELS))
    with Hatstand("http://x", transport=transport) as client:
        client.models()
    assert pauses == [1, 30]  # never longer in one go


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(500), ServerFault),
        (httpx.ReadTimeout("slow"), RequestTimedOut),
    ],
)
def test_what_may_have_been_done_is_not_asked_twice(
    answer: Answer, error: type[Exception], pauses: list[float]
) -> None:
    transport, asked = script(answer)
    with Hatstand("http://x", transport=transport) as client, pytest.raises(error):
        client.chat("tiny", "hi")
    assert (asked, pauses) == (["POST"], [])


def test_a_server_that_starts_is_waited_for(pauses: list[float]) -> None:
    refused = httpx.ConnectError("refused")
    transport, asked = script(refused, httpx.Response(503), httpx.Response(200, json=MODELS))
    with Hatstand("http://x", transport=transport) as client:
        client.models()
    assert len(asked) == 3
    assert 0.25 <= pauses[0] <= 0.5
    assert 0.5 <= pauses[1] <= 1.0
    transport, asked = script(*[refused] * 3)
    with Hatstand("http://x", transport=transport) as client, pytest.raises(ConnectionFailed):
        client.models()


def test_streams_too(pauses: list[float]) -> None:
    body = b'data: {"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\n'
    whole = httpx.Response(200, content=body + b"data: [DONE]\n\n")
    transport, _ = script(full(2), whole)
    with Hatstand("http://x", transport=transport) as client, client.stream("m", "x") as stream:
        assert [event.text for event in stream] == ["hi"]
    assert pauses == [2]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_async(pauses: list[float], anyio_backend: str) -> None:
    assert anyio_backend == "asyncio"
    transport, _ = script(full(2), httpx.Response(200, json=MODELS))
    async with AsyncHatstand("http://x", transport=transport) as client:
        assert (await client.models())[0].is_base
    assert pauses == [2]
