"""Schemathesis over both OpenAPI documents: what they promise is what is answered.

HATSTAND_SCHEMATHESIS=1000 asks so many requests of each kind of each operation, instead of a few.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import load_all_checks
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance
from starlette.types import ASGIApp, Receive, Scope, Send

from registry.api.openapi import openapi_document as registry_document
from server.api.openapi import openapi_document as server_document
from tests.fuzz.apps import Built, build_registry, build_server
from tests.server.api.fakes import FakeEngine, LiveServer, make_site
from tests.server.api.test_tools import MISTRAL

EXAMPLES = int(os.environ.get("HATSTAND_SCHEMATHESIS", "4"))
DOCUMENTS: Mapping[str, Mapping[str, Any]] = {
    "server": server_document(version="0", tunes=True),
    "registry": registry_document(),
}
BUILDERS: Mapping[str, Callable[[Path], Built]] = {
    "server": build_server,
    "registry": build_registry,
}
# A stream that never ends, and a request to an address of the fuzzer's choice.
LEFT_OUT = {("get", "/events"), ("post", "/webhooks/{webhook}/test")}
# A body may fit its schema and still name what is not there, or contradict itself. Whether keys are
# looked at is for tests/registry/api/test_access.py and tests/server/api/test_keys.py.
NOT_CHECKED = [positive_data_acceptance, ignored_auth]
OPERATIONS = [
    (api, method, path)
    for api, document in DOCUMENTS.items()
    for path, methods in document["paths"].items()
    for method in methods
    if (method, path) not in LEFT_OUT
]


def check_events(document: Mapping[str, Any], path: str, method: str, said: str) -> int:
    """Hold each event of a stream to its schema, which is that of `data`; returns how many.

    To JSON Schema a `contentSchema` is a remark, so that nobody else looks at it.
    """
    answer = document["paths"][path][method]["responses"]["200"]["content"]["text/event-stream"]
    _, content = answer["schema"]["properties"]["data"]["anyOf"]
    schema = {**content["contentSchema"], "components": document["components"]}
    validator = jsonschema_rs.validator_for(schema)
    events = [line.removeprefix("data: ") for line in said.splitlines() if line.startswith("data:")]
    for event in events:
        if event != "[DONE]":
            validator.validate(json.loads(event))
    return len(events)


class Described:
    """An API with its document, asked in this process."""

    def __init__(
        self, api: str, folder: Path, *, around: Callable[[ASGIApp], ASGIApp] = lambda app: app
    ) -> None:
        app, self._key = BUILDERS[api](folder)
        app = around(app)

        async def kept(scope: Scope, receive: Receive, send: Send) -> None:
            """Without a lifespan, which schemathesis would end after each test."""
            if scope["type"] == "lifespan":
                raise RuntimeError("none")
            await app(scope, receive, send)

        self._document = DOCUMENTS[api]
        self._schema = schemathesis.openapi.from_asgi("/openapi.json", kept)

    def ask(self, path: str, method: str, mode: GenerationMode) -> None:
        """Requests that fit the document or break it; raises on an answer that it does not have."""
        cases = self._schema[path][method.upper()].as_strategy(generation_mode=mode)

        @settings(
            max_examples=EXAMPLES,
            database=None,
            derandomize=EXAMPLES < 100,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=cases)
        def run(case: schemathesis.Case[Any]) -> None:
            headers = {"authorization": self._key} if self._key else None
            said = case.call_and_validate(headers=headers, excluded_checks=NOT_CHECKED)
            if "text/event-stream" in "".join(said.headers.get("content-type", ())):
                check_events(self._document, path, method, said.content.decode())

        run()


@pytest.fixture(scope="module")
def apis(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Described]:
    load_all_checks()
    return {api: Described(api, tmp_path_factory.mktemp(api)) for api in BUILDERS}


@pytest.mark.parametrize(("api", "method", "path"), OPERATIONS)
def test_an_operation_answers_as_it_says(
    apis: Mapping[str, Described], api: str, method: str, path: str
) -> None:
    apis[api].ask(path, method, GenerationMode.POSITIVE)
    try:
        apis[api].ask(path, method, GenerationMode.NEGATIVE)
    except Unsatisfiable:
        operation = DOCUMENTS[api]["paths"][path][method]
        assert "requestBody" not in operation  # nothing in it can be wrong


CHAT = {
    "messages": [{"role": "user", "content": "hi"}],
    "logprobs": True,
    "top_logprobs": 1,
    "n": 2,
}
CALLED = ("Hi ", '[TOOL_CALLS] [{"name": "look",', ' "arguments": {"a": 1}}]')
LOOK = {"type": "function", "function": {"name": "look"}}
EVERYTHING = {"stream_options": {"include_usage": True}, "return_token_ids": True}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/chat/completions", {**CHAT, **EVERYTHING}, "delta"),
        ("/v1/chat/completions", {**CHAT, "tools": [LOOK]}, "tool_calls"),
        ("/v1/completions", {"prompt": "hi", "echo": True, "logprobs": 1, **EVERYTHING}, "index"),
        ("/v1/responses", {"input": "hi"}, "sequence_number"),
        ("/v1/responses", {"input": "hi", "tools": [{"type": "function", "name": "look"}]}, "item"),
    ],
)
def test_streams_say_what_their_schema_says(path: str, body: dict[str, Any], field: str) -> None:
    site = make_site(engine=FakeEngine(CALLED))
    site.base.tokenizer.chat_template = MISTRAL
    with LiveServer(site) as live:
        said = httpx.post(live.url + path, json={"model": "pirate", "stream": True, **body}).text
        site.engine.error_after = (1, RuntimeError("broken on purpose"))
        failed = httpx.post(live.url + path, json={"model": "pirate", "stream": True, **body}).text
    assert check_events(DOCUMENTS["server"], path, "post", said) > 3
    assert check_events(DOCUMENTS["server"], path, "post", failed) > 1
    assert '"internal_error"' in failed
    with pytest.raises(jsonschema_rs.ValidationError):
        check_events(DOCUMENTS["server"], path, "post", said.replace(f'"{field}":', '"other":'))


@pytest.mark.parametrize("api", DOCUMENTS)
def test_every_answer_has_a_schema(api: str) -> None:
    for path, methods in DOCUMENTS[api]["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                if status == "204" or method == "head":
                    continue  # without a body
                assert answer["content"], (path, method, status)
                for kind, content in answer["content"].items():
                    assert content["schema"] or kind == "application/octet-stream", (path, kind)
