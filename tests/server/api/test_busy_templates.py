"""An adapter whose slow template finds no place: the client hears when to come again."""

from __future__ import annotations

import httpx
import pytest

from registry.hats import Hat
from registry.lock import GoldenPrompt
from registry.template_lane import Lost
from registry.template_process import TemplateProcess

from .fakes import Site

pytestmark = pytest.mark.anyio

QUESTION = {"role": "user", "content": "hi"}
CHAT = {"model": "slow", "messages": [QUESTION]}


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> TemplateProcess:
    """One to which every template is slow, and which has no place for any."""
    process = TemplateProcess(seconds=4.5, patient=0, patience=0)
    monkeypatch.setattr(process.quick, "ask", lambda _question: Lost.LATE)
    monkeypatch.setattr("server.proof.rendering.template_process", lambda: process)
    return process


def assert_busy(reply: httpx.Response) -> None:
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    error = reply.json()["error"]
    assert "try again later" in error.pop("message")
    assert error == {"type": "server_error", "param": None, "code": "templates_busy"}


@pytest.mark.parametrize(
    ("path", "more"),
    [("/v1/chat/completions", {}), ("/v1/chat/completions", {"stream": True}), ("/tokenize", {})],
)
async def test_requests_are_told_when_to_come_again(
    site: Site, client: httpx.AsyncClient, path: str, more: dict[str, bool]
) -> None:
    site.registry.push("slow", Hat(chat_template="{{ messages }}"))
    assert_busy(await client.post(path, json=CHAT | more))


async def test_a_version_whose_lock_cannot_be_checked_yet_is_not_refused_for_good(
    site: Site, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, process: TemplateProcess
) -> None:
    site.registry.push("slow", Hat(chat_template="hi"))
    golden = GoldenPrompt(messages=(QUESTION,), token_ids=tuple(map(ord, "hi")))
    site.registry.golden["slow@1"] = (golden,)
    assert_busy(await client.post("/v1/completions", json={"model": "slow", "prompt": "x"}))
    monkeypatch.setattr(process, "render", lambda *_conversation, **_tokens: "hi")
    assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
