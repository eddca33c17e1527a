"""A hat that renders to other tokens than it did in training is not served."""

from __future__ import annotations

import anyio
import pytest

from registry.hats import Hat
from registry.lock import GoldenPrompt
from server.api.models import Models
from server.errors import AdapterNotServable

from .fakes import FakeRegistry, FakeTokenizer, make_site, open_client

QUESTION = ({"role": "user", "content": "hi"},)
RENDERED = "<user>hi<answer>"


def registry_with(text: str, hat: Hat | None = None) -> FakeRegistry:
    site = make_site()
    site.registry.push("locked", hat)
    ids = tuple(FakeTokenizer().encode(text))
    site.registry.golden["locked@1"] = (GoldenPrompt(messages=QUESTION, token_ids=ids),)
    return site.registry


def models(registry: FakeRegistry) -> Models:
    return Models(registry, make_site().base)  # type: ignore[arg-type]


def test_the_same_tokens_are_served() -> None:
    assert models(registry_with(RENDERED)).resolve("locked").label == "locked@1"


def test_other_tokens_are_refused_with_the_place() -> None:
    with pytest.raises(AdapterNotServable, match=r"locked@1.*first difference is at token 6"):
        models(registry_with("<user>ho<answer>".replace("h", "H"))).resolve("locked")
    changed = registry_with(RENDERED, Hat(system_prompt="Be brief."))
    with pytest.raises(AdapterNotServable, match="in training to 16"):
        models(changed).resolve("locked@1")


def test_a_template_that_fails_now_is_refused() -> None:
    failing = registry_with(RENDERED, Hat(chat_template="{{ raise_exception('no') }}"))
    with pytest.raises(AdapterNotServable, match="no"):
        models(failing).resolve("locked")


def test_others_are_listed_and_served_beside_it() -> None:
    site = make_site()
    site.registry.push("locked")
    site.registry.golden["locked@1"] = (GoldenPrompt(messages=QUESTION, token_ids=(1,)),)

    async def ask() -> None:
        async with open_client(site.app) as client:
            body = {"model": "locked", "messages": list(QUESTION)}
            answer = await client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 409
            assert answer.json()["error"]["code"] == "adapter_not_servable"
            listed = (await client.get("/v1/models")).json()["data"]
            assert "locked" not in {model["id"] for model in listed}
            body["model"] = "sql"
            assert (await client.post("/v1/chat/completions", json=body)).status_code == 200

    anyio.run(ask)
