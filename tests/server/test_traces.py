"""One request through two processes' worth of servers, as a collector sees it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from registry import Registry
from registry.bases import read_base
from registry.tracing import open_tracing
from server.serve import serving
from server.settings import EngineOptions, Settings
from tests.server.test_registry_link import registry_server
from tests.support.otlp import Collector, collecting
from tests.support.tiny import TinyAdapter, write_tiny_base

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

ENGINE = EngineOptions(device="cpu", kv_memory=4 << 20, max_rank=8, max_slots=2)
GATEWAY = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = bytes.fromhex(GATEWAY[3:35])


@pytest.fixture
def collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collector:
    """Two chats of an adapter that lies in a registry elsewhere; the first one has it fetched."""
    base = write_tiny_base(tmp_path / "bases" / "tiny")
    registry = Registry.open(tmp_path / "registry")
    adapter = TinyAdapter("sql").write(base, tmp_path / "sql")
    registry.push(adapter, "sql", base=read_base(base), alias="prod")
    body = {"model": "sql", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3}
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        tracing = open_tracing("hatstand-registry")
        assert tracing is not None
        with registry_server(registry, tracing=tracing) as url:
            settings = Settings(base=str(base), registry=url, port=0, engine=ENGINE)
            with serving(settings) as server:
                ask = f"{server}/v1/chat/completions"
                headers = {"traceparent": GATEWAY}
                for given in (headers, {}):
                    httpx.post(ask, json=body, headers=given, timeout=60).raise_for_status()
        tracing.close()
    return collector


def test_a_cold_request_is_followed_into_the_registry_and_back(collected: Collector) -> None:
    in_trace = {span.name: span for _, span in collected.spans if span.trace_id == TRACE}
    assert collected.services_of(TRACE) == {"hatstand", "hatstand-registry"}
    request, chat = in_trace["POST /v1/chat/completions"], in_trace["chat sql"]
    assert request.parent_span_id.hex() == "b7ad6b7169203331"
    assert chat.parent_span_id == request.span_id
    way = [in_trace[name] for name in ("queue", "wait for adapter", "prefill", "decode")]
    queue, wait, prefill, decode = way
    assert {span.parent_span_id for span in (queue, prefill, decode)} == {chat.span_id}
    assert wait.parent_span_id == queue.span_id
    edges = [
        request.start_time_unix_nano,
        queue.start_time_unix_nano,
        wait.start_time_unix_nano,
        wait.end_time_unix_nano,
        queue.end_time_unix_nano,
        prefill.end_time_unix_nano,
        decode.end_time_unix_nano,
        request.end_time_unix_nano,
    ]
    assert edges == sorted(edges)
    load = in_trace["load adapter"]
    assert wait.start_time_unix_nano <= load.start_time_unix_nano
    assert load.end_time_unix_nano <= wait.end_time_unix_nano
    calls = {span.span_id for _, span in collected.spans if span.parent_span_id == load.span_id}
    elsewhere = [span for service, span in collected.spans if service == "hatstand-registry"]
    assert calls
    assert calls <= {span.parent_span_id for span in elsewhere}
    assert "GET /blobs/{digest}" in {span.name for span in elsewhere}


def test_a_warm_request_is_a_trace_of_its_own_and_asks_nobody(collected: Collector) -> None:
    (second,) = {span.trace_id for span in collected.named("chat sql")} - {TRACE}
    assert collected.services_of(second) == {"hatstand"}
    names = sorted(span.name for _, span in collected.spans if span.trace_id == second)
    assert names == ["POST /v1/chat/completions", "chat sql", "decode", "prefill", "queue"]
