"""What strangers may try through requests and adapters."""

from __future__ import annotations

import hmac
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from registry import Registry
from registry.bases import read_base
from registry.template_process import TemplateProcess
from server.api.keys import KeyRing, parse_keys
from server.serve import serving
from tests.server.api.fakes import make_site, open_client
from tests.support.tiny import TinyAdapter
from tests.torture.site import make_settings, post

ROUNDS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def test_every_key_is_compared_whichever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = KeyRing(parse_keys([f"key-{number}-of-five" for number in range(5)], where="test"))
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    for token, is_known in (("key-0-of-five", True), ("key-4-of-five", True), ("other", False)):
        compared.clear()
        assert (ring.find(token) is not None) is is_known
        assert len(compared) == 5


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_nothing_of_a_request_breaks_a_line_of_the_log(
    caplog: pytest.LogCaptureFixture, anyio_backend: str
) -> None:
    assert anyio_backend
    forged = "x\r\n2026-01-01 INFO server: all is well"
    chat = {"messages": [{"role": "user", "content": forged}], "model": forged}
    with caplog.at_level(logging.DEBUG):
        async with open_client(make_site().app) as client:
            headers = {"x-request-id": "a\tb", "x-hatstand-session": "s" * 5000}
            for path in ("/%0d%0aINFO%20forged", "/v1/models/%0aforged"):
                reply = await client.get(path, headers=headers)
                assert reply.status_code == 404
                assert "\n" not in str(reply.headers)
            reply = await client.post("/v1/chat/completions", json=chat, headers=headers)
    assert reply.status_code == 404
    ours = [each for each in caplog.records if each.name.startswith(("server", "registry"))]
    assert len(ours) >= 3
    assert [each.getMessage() for each in ours if "\n" in each.getMessage()] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_template_that_loops_stops_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(tmp_path, ["good"])
    base = Path(settings.base)
    bad = TinyAdapter("bad").write(base, tmp_path / "bad")
    (bad / "chat_template.jinja").write_text(ROUNDS)
    Registry.open(Path(settings.registry)).push(bad, "bad", base=read_base(base))
    process = TemplateProcess(seconds=2.0)
    monkeypatch.setattr("server.proof.rendering.template_process", lambda: process)

    def chat() -> httpx.Response:
        body = {"model": "bad", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)

    with serving(settings) as url, ThreadPoolExecutor(50) as crowd:
        asked = [crowd.submit(chat) for _ in range(50)]  # more than the server has threads
        assert [post(url, "good").status_code for _ in range(10)] == [200] * 10
        refusals = [each.result() for each in asked]
        reasons = [(reply.status_code, reply.json()["error"]["message"]) for reply in refusals]
        failed = [status for status, why in reasons if "more than 2 s" in why]
        busy = [status for status, why in reasons if "is slow, and others" in why]
        assert set(failed) == {400}
        assert set(busy) <= {503}
        assert len(failed) + len(busy) == 50
    process.close()
