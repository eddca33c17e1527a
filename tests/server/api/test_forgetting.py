"""What a request held goes when it ends, and waits for no garbage collection.

A circle of objects would stay until the collector looks through all that is old, prompt and all.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.server.api.fakes import LiveServer
from tests.support.waiting import PATIENCE, eventually

PROMPT: dict[str, Any] = {"prompt": "hello"}
MESSAGES: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/completions", PROMPT),
        ("/v1/chat/completions", MESSAGES),
        ("/v1/responses", {"input": "hello"}),
        ("/v1/embeddings", {"input": "hello"}),
    ],
)
def test_a_request_goes_when_it_is_answered(
    live: LiveServer, path: str, asked: dict[str, Any], stream: bool
) -> None:
    streamed = {} if path.endswith("embeddings") else {"stream": stream}
    body = {"model": "sql", **asked, **streamed}
    reply = httpx.post(f"{live.url}{path}", json=body, timeout=PATIENCE)
    assert reply.status_code == 200, reply.text
    request = weakref.ref(live.site.engine.requests.pop())
    eventually(lambda: request() is None, "nothing holds the request any more")
