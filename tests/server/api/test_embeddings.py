"""POST /v1/embeddings: OpenAI's shape, and everything that a request has here."""

from __future__ import annotations

import asyncio
import base64
import math
import struct
from typing import Any

import httpx
import pytest

from server.errors import NonFiniteLogits, QueueFull
from server.settings import ApiSettings
from tests.server.api.fakes import FakeEngine, Site, make_site, open_client

pytestmark = pytest.mark.anyio


async def embed(client: httpx.AsyncClient, text: Any, **body: Any) -> httpx.Response:
    return await client.post("/v1/embeddings", json={"model": "sql", "input": text, **body})


async def test_a_text_becomes_a_vector(site: Site, client: httpx.AsyncClient) -> None:
    reply = await embed(client, "hello")
    assert reply.status_code == 200
    assert reply.headers["x-hatstand-adapter"] == "sql@1"
    body = reply.json()
    assert body["object"] == "list"
    assert body["model"] == "sql"
    assert body["system_fingerprint"].startswith("base-ba5e")
    assert body["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    (entry,) = body["data"]
    assert (entry["object"], entry["index"]) == ("embedding", 0)
    assert math.hypot(*entry["embedding"]) == pytest.approx(1)
    (request,) = site.engine.requests
    assert request.prompt_token_ids == tuple(map(ord, "hello"))  # no hat: neither system nor turns
    assert (request.pooling, request.params.max_tokens) == ("mean", 0)
    assert request.adapter is not None
    assert request.adapter.label == "sql@1"
    assert site.registry.leases[0][0] == request.adapter.digest


@pytest.mark.parametrize(
    ("given", "prompts"),
    [
        ("ab", [(97, 98)]),
        (["a", "bc"], [(97,), (98, 99)]),
        ([5, 6], [(5, 6)]),
        ([[5], [6, 7]], [(5,), (6, 7)]),
    ],
)
async def test_every_form_of_input(
    given: Any, prompts: list[tuple[int, ...]], site: Site, client: httpx.AsyncClient
) -> None:
    reply = await embed(client, given)
    assert [request.prompt_token_ids for request in site.engine.requests] == prompts
    assert [entry["index"] for entry in reply.json()["data"]] == list(range(len(prompts)))


async def test_vectors_come_in_the_order_of_their_inputs(
    site: Site, client: httpx.AsyncClient
) -> None:
    site.engine.delay = 0.001
    reply = await embed(client, [[token] for token in range(200)])
    angles = [math.atan2(*reversed(e["embedding"][:2])) for e in reply.json()["data"]]
    assert angles == pytest.approx([token / 1000 for token in range(200)])


async def test_packed_vectors_are_the_same_in_fp32(client: httpx.AsyncClient) -> None:
    plain = (await embed(client, "x", encoding_format="float")).json()["data"][0]["embedding"]
    packed = (await embed(client, "x", encoding_format="base64")).json()["data"][0]["embedding"]
    assert struct.unpack("<8f", base64.b64decode(packed)) == pytest.approx(plain)


async def test_fewer_dimensions_are_brought_to_length_one(client: httpx.AsyncClient) -> None:
    whole = (await embed(client, "x")).json()["data"][0]["embedding"]
    short = (await embed(client, "x", dimensions=1)).json()["data"][0]["embedding"]
    assert short == [pytest.approx(1)]
    assert (await embed(client, "x", dimensions=8)).json()["data"][0]["embedding"] == whole


async def test_the_last_tokens_state_and_sums(site: Site, client: httpx.AsyncClient) -> None:
    adapters = [{"name": "sql", "scale": 0.5}, {"name": "pirate", "scale": 0.5}]
    reply = await embed(client, "x", pooling="last", adapters=adapters, user="me")
    assert reply.headers["x-hatstand-adapter"] == "pirate@1*0.5+sql@1*0.5"
    assert site.engine.requests[0].pooling == "last"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [[]]}, "input.0"),
        ({"input": [""]}, "input.0"),
        ({"input": ["a", 5]}, "input.1"),
        ({"input": [1000]}, "input"),
        ({"input": [-1]}, "input.0"),
        ({"input": [[0]] * 2049}, "input"),
        ({"input": "x" * 65}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": 9}, "dimensions"),
        ({"pooling": "max"}, "pooling"),
        ({"truncate_prompt_tokens": 5}, "truncate_prompt_tokens"),
        ({"normalize": False}, "normalize"),
        ({"temperature": 1}, "temperature"),
        ({"model": "nobody"}, "model"),
    ],
)
async def test_what_is_wrong_is_named(
    body: dict[str, Any], param: str, site: Site, client: httpx.AsyncClient
) -> None:
    reply = await client.post("/v1/embeddings", json={"model": "sql", "input": "x", **body})
    assert reply.status_code in (400, 404)
    assert reply.json()["error"]["param"] == param
    assert site.engine.requests == []


async def test_as_long_as_the_context(client: httpx.AsyncClient) -> None:
    assert (await embed(client, "x" * 64)).status_code == 200
    error = (await embed(client, ["x", "x" * 65])).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "input 1 has 65" in error["message"]


async def test_a_long_list_does_not_fill_the_queue() -> None:
    class Crowded(FakeEngine):
        most = 0

        def _note(self) -> None:
            self.most = max(self.most, self.num_running)

        async def generate(self, request: Any) -> Any:
            async for delta in super().generate(request):
                self._note()
                yield delta

    engine = Crowded()
    engine.delay = 0.001
    site = make_site(ApiSettings(max_prompts=5), engine)
    async with open_client(site.app) as client:
        assert (await embed(client, ["x"] * 40)).status_code == 200
    assert engine.most == 5
    assert len(engine.requests) == 40


@pytest.mark.parametrize(
    ("error", "status"),
    [(QueueFull("full", retry_after=2), 429), (NonFiniteLogits("NaN"), 500)],
)
async def test_the_engines_refusals(
    error: Exception, status: int, site: Site, client: httpx.AsyncClient
) -> None:
    site.engine.admission_error = error  # type: ignore[assignment]
    reply = await embed(client, ["x"] * 3)
    assert reply.status_code == status
    assert site.engine.num_running == 0


async def test_who_leaves_early_leaves_nothing_behind(site: Site) -> None:
    site.engine.delay = 10
    async with open_client(site.app) as client:
        asking = asyncio.create_task(embed(client, ["x"] * 5))
        while site.engine.num_running < 5:
            await asyncio.sleep(0.001)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        while site.engine.num_running:
            await asyncio.sleep(0.001)
    assert len(site.engine.aborted) == 5


async def test_a_line_in_the_log(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await embed(client, "secret")
    assert "POST /v1/embeddings 200" in caplog.text
    assert "adapter=sql@1" in caplog.text
    assert "secret" not in caplog.text
    metrics = (await client.get("/metrics")).text
    assert 'hatstand_sequences_finished_total{reason="stop"} 1.0' in metrics
