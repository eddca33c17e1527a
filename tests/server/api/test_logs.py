"""What the log says of a request, and what it never does."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from registry.logs import JsonLines
from server.api.keys import parse_keys
from server.settings import ApiSettings
from tests.server.api.fakes import Site, make_site, open_client

pytestmark = pytest.mark.anyio

KEYS = ["first-secret-1::web", "second-secret-2"]
HI = [{"role": "user", "content": "a very private question"}]
CHAT = "/v1/chat/completions"


@pytest.fixture
def site() -> Site:
    return make_site(ApiSettings(keys=parse_keys(KEYS, where="test")))


@pytest.fixture
async def client(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": "Bearer first-secret-1", "x-request-id": "mine"}
    async with open_client(site.app, headers) as client:
        yield client


class Lines(list[dict[str, Any]]):
    """What the access log wrote, as a collector of logs reads it."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        formatter = JsonLines()
        self.text = [formatter.format(each) for each in caplog.records]
        lines = map(json.loads, self.text)
        super().__init__(each for each in lines if each["logger"].endswith("access_log"))


@pytest.mark.parametrize("stream", [False, True])
async def test_one_line_says_who_asked_what_and_what_it_came_to(
    client: httpx.AsyncClient, site: Site, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    with caplog.at_level(logging.DEBUG):
        await client.post(CHAT, json={"model": "sql@prod", "messages": HI, "stream": stream})
    (line,) = Lines(caplog)
    assert line["request_id"] == "mine"
    assert line["tenant"] == "web"
    assert (line["method"], line["path"], line["status"]) == ("POST", CHAT, 200)
    assert (line["model"], line["adapter"]) == ("sql@prod", "sql@1")
    assert line["digest"] == site.registry.lines["sql"][0].digest
    prompt = len(site.engine.requests[0].prompt_token_ids)
    assert (line["prompt_tokens"], line["cached_tokens"]) == (prompt, 2)
    assert line["completion_tokens"] == 4
    assert line["finish_reasons"] == ["stop"]
    assert 0 < line["ttft_seconds"] <= line["seconds"]
    assert line["queue_seconds"] > 0


async def test_neither_keys_nor_words_are_written(
    client: httpx.AsyncClient, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    other = {"authorization": "Bearer second-secret-2"}
    wrong = {"authorization": "Bearer third-secret-3"}
    body = {"model": "sql", "messages": HI}
    with caplog.at_level(logging.DEBUG):
        assert (await client.post(CHAT, json=body)).status_code == 200
        assert (await client.post(CHAT, json=body, headers=other)).status_code == 200
        assert (await client.post(CHAT, json=body, headers=wrong)).status_code == 401
        site.engine.error_after = (1, RuntimeError("broken"))
        assert (await client.post(CHAT, json=body)).status_code == 500
    lines = Lines(caplog)
    ours = [text for text in lines.text if '"logger": "httpx"' not in text]
    assert not any("secret" in text or "private" in text or "Hello" in text for text in ours)
    assert [line.get("tenant") for line in lines[:3]] == ["web", lines[1]["tenant"], None]
    assert lines[1]["tenant"].startswith("key-")


async def test_a_path_cannot_forge_a_line(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await client.get("/v1/models/x%0A2026-01-01 INFO forged%0D")
    (line,) = Lines(caplog)
    assert "\n" not in line["path"]
    assert "\n" not in line["message"]
