"""Spans of requests: who is whose part, when, and what they say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from registry.tracing.otel import OtelTracing
from server.errors import AdapterLoadError, QueueFull
from tests.server.api.fakes import LiveServer, Site, make_site, open_client
from tests.server.api.test_live import HI, closed_after_first_bytes
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

GATEWAY = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CHAT = "/v1/chat/completions"


class Spans:
    """What one server has said of its requests."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = OtelTracing("test", SimpleSpanProcessor(self._exporter))

    def all(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def site(spans: Spans) -> Site:
    return make_site(tracing=spans.tracing)


@pytest.fixture
async def client(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(site.app) as client:
        yield client


def is_part_of(child: ReadableSpan, parent: ReadableSpan) -> bool:
    """By its context, and by the clock."""
    assert child.parent is not None
    return (
        child.parent.span_id == parent.context.span_id
        and parent.start_time <= child.start_time <= child.end_time <= parent.end_time
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_one_request_from_the_gateway_to_its_last_token(
    client: httpx.AsyncClient, spans: Spans, stream: bool
) -> None:
    body = {"model": "sql@prod", "messages": HI, "stream": stream, "seed": 7, "temperature": 0.5}
    headers = {"traceparent": GATEWAY, "tracestate": "gate=way", "baggage": "secret=1"}
    reply = await client.post(CHAT, json=body, headers=headers)
    assert reply.status_code == 200
    request, chat = spans.one(f"POST {CHAT}"), spans.one("chat sql@prod")
    assert request.kind == SpanKind.SERVER
    assert f"{request.parent.span_id:016x}" == "b7ad6b7169203331"
    assert {f"{span.context.trace_id:032x}" for span in spans.all()} == {GATEWAY[3:35]}
    assert request.context.trace_state.get("gate") == "way"
    assert request.attributes["http.route"] == CHAT
    assert request.attributes["http.response.status_code"] == 200
    assert is_part_of(chat, request)
    queue, prefill, decode = (spans.one(name) for name in ("queue", "prefill", "decode"))
    assert chat.start_time >= request.start_time
    assert queue.end_time == prefill.start_time
    assert prefill.end_time == decode.start_time
    assert decode.end_time <= chat.end_time <= request.end_time
    assert all(span.parent.span_id == chat.context.span_id for span in (queue, prefill, decode))
    assert is_part_of(spans.one("wait for adapter"), queue)
    assert [(event.name, event.timestamp) for event in decode.events] == [
        ("first token", decode.start_time)
    ]
    assert len(spans.all()) == 6  # and none for a token


async def test_it_says_what_generative_ai_is_asked_about(
    client: httpx.AsyncClient, spans: Spans, site: Site
) -> None:
    body = {"model": "sql@2", "messages": HI, "max_tokens": 2, "seed": 7, "n": 2}
    await client.post(CHAT, json=body)
    chat = spans.one("chat sql@2").attributes
    digest = site.registry.lines["sql"][1].digest
    assert chat["gen_ai.operation.name"] == "chat"
    assert chat["gen_ai.provider.name"] == "hatstand"
    assert chat["gen_ai.request.model"] == "sql@2"
    assert chat["gen_ai.request.max_tokens"] == 2
    assert chat["gen_ai.request.choice.count"] == 2
    assert chat["gen_ai.request.seed"] == 7
    assert chat["gen_ai.response.model"] == "sql@2"
    assert chat["gen_ai.response.finish_reasons"] == ("length", "length")
    prompt = len(site.engine.requests[0].prompt_token_ids)
    assert chat["gen_ai.usage.input_tokens"] == prompt
    assert chat["gen_ai.usage.cache_read.input_tokens"] == 2
    assert chat["gen_ai.usage.output_tokens"] == 4
    assert chat["gen_ai.response.time_to_first_chunk"] > 0
    adapter = {key: chat[f"hatstand.adapter.{key}"] for key in ("name", "version", "digest")}
    assert adapter == {"name": "sql", "version": "2", "digest": digest}
    prefills = spans.named("prefill")
    assert sorted(span.attributes["hatstand.sequence"] for span in prefills) == [0, 1]
    assert {span.attributes["hatstand.slot"] for span in prefills} == {3}
    said = repr([(span.name, span.attributes, span.events) for span in spans.all()])
    assert "Write SQL" not in said
    assert "Hello" not in said


async def test_what_goes_wrong_is_told_where_it_did(
    client: httpx.AsyncClient, spans: Spans, site: Site
) -> None:
    site.engine.admission_error = AdapterLoadError("no such file")
    assert (await client.post(CHAT, json={"model": "sql", "messages": HI})).status_code == 503
    for name in ("queue", "chat sql", f"POST {CHAT}"):
        assert spans.one(name).status.status_code == StatusCode.ERROR
    assert spans.one("queue").attributes["error.type"] == "adapter_load_failed"
    assert spans.one(f"POST {CHAT}").attributes["error.type"] == "503"


async def test_a_stream_that_breaks_says_so_though_its_status_was_200(
    client: httpx.AsyncClient, spans: Spans, site: Site
) -> None:
    site.engine.error_after = (2, RuntimeError("secret path"))
    await client.post(CHAT, json={"model": "sql", "messages": HI, "stream": True})
    assert spans.one("decode").status.status_code == StatusCode.ERROR
    assert spans.one("decode").attributes["hatstand.tokens"] == 2
    assert spans.one("chat sql").attributes["error.type"] == "internal_error"
    assert "secret path" not in spans.one("chat sql").status.description


async def test_a_refusal_is_the_callers_own(
    client: httpx.AsyncClient, spans: Spans, site: Site
) -> None:
    site.engine.admission_error = QueueFull("full")
    await client.post(CHAT, json={"model": "sql", "messages": HI})
    await client.post(CHAT, json={"model": "nobody", "messages": HI})
    assert [span.status.status_code for span in spans.named(f"POST {CHAT}")] == [
        StatusCode.UNSET
    ] * 2


async def test_probes_are_not_traced_and_strange_paths_name_nothing(
    client: httpx.AsyncClient, spans: Spans
) -> None:
    for path in ("/metrics", "/healthz", "/readyz"):
        await client.get(path)
    await client.get("/v1/models/sql@2")
    await client.get("/etc/passwd")
    assert [span.name for span in spans.all()] == ["GET /v1/models/{model_id:path}", "GET"]


async def test_an_unsampled_trace_is_carried_on_and_not_written(
    client: httpx.AsyncClient, spans: Spans
) -> None:
    unsampled = {"traceparent": GATEWAY[:-2] + "00"}
    reply = await client.post(CHAT, json={"model": "sql", "messages": HI}, headers=unsampled)
    assert reply.status_code == 200
    assert spans.all() == ()


async def test_what_is_followed_for_ever_has_no_span(
    client: httpx.AsyncClient, spans: Spans
) -> None:
    """The events of a registry, its own or that below a server's /registry, have no end."""
    for path in ("/metrics", "/readyz", "/events", "/registry/events"):
        await client.get(path)
    assert spans.all() == ()
    await client.get("/registry/adapters")
    assert [span.attributes["url.path"] for span in spans.all()] == ["/registry/adapters"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_its_spans(stream: bool) -> None:
    spans = Spans()
    site = make_site(tracing=spans.tracing)
    site.engine.gate = asyncio.Event()  # the second token never comes
    with LiveServer(site) as live:
        closed_after_first_bytes(live, stream=stream)
        eventually(lambda: len(spans.named(f"POST {CHAT}")) == 1)
    (chat,) = spans.named("chat pirate")
    assert chat.attributes["gen_ai.response.finish_reasons"] == ("abort",)
    assert chat.status.status_code == StatusCode.UNSET
    (decode,) = spans.named("decode")
    assert decode.attributes["hatstand.tokens"] == 1
    assert decode.end_time <= chat.end_time
