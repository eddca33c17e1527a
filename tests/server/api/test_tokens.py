"""/tokenize and /detokenize."""

from __future__ import annotations

import httpx
import pytest

from tests.server.api.fakes import Site

pytestmark = pytest.mark.anyio


async def test_a_chat_under_its_hat(client: httpx.AsyncClient) -> None:
    body = {"model": "sql", "messages": [{"role": "user", "content": "hi"}]}
    reply = await client.post("/tokenize", json=body | {"return_token_strs": True})
    found = reply.json()
    text = "<system>Write SQL.<user>hi<answer>"
    assert "".join(found["token_strs"]) == text
    assert (found["count"], found["max_model_len"]) == (len(text), 128)
    assert reply.headers["x-hatstand-adapter"] == "sql@1"
    back = await client.post("/detokenize", json={"model": "sql", "tokens": found["tokens"]})
    assert back.json() == {"prompt": text}


async def test_a_text_as_completions_read_it(site: Site, client: httpx.AsyncClient) -> None:
    site.base.tokenizer.bos = 7
    body = {"model": "tiny-mistral", "prompt": "ab"}
    assert (await client.post("/tokenize", json=body)).json()["tokens"] == [7, 97, 98]
    body["add_special_tokens"] = False
    assert (await client.post("/tokenize", json=body)).json()["tokens"] == [97, 98]


async def test_refusals(client: httpx.AsyncClient) -> None:
    for path, body in (
        ("/tokenize", {"model": "sql"}),
        ("/tokenize", {"model": "sql", "prompt": "x", "messages": []}),
        ("/tokenize", {"model": "sql", "prompt": 3}),
        ("/detokenize", {"model": "sql", "tokens": [-1]}),
        ("/detokenize", {"model": "sql", "tokens": [1000]}),
    ):
        assert (await client.post(path, json=body)).status_code == 400, body
    neither = (await client.post("/tokenize", json={"model": "sql"})).json()["error"]
    assert "give 'prompt' or 'messages'" in neither["message"]
    missing = {"model": "nobody", "prompt": "x"}
    assert (await client.post("/tokenize", json=missing)).status_code == 404
