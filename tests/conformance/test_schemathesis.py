"""Schemathesis over both OpenAPI documents: what they promise is what is answered.

HATSTAND_SCHEMATHESIS=1000 asks so many requests of each kind of each operation, instead of a few.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import load_all_checks
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance
from starlette.types import Receive, Scope, Send

from registry.api.openapi import openapi_document as registry_document
from server.api.openapi import openapi_document as server_document
from tests.fuzz.apps import Built, build_registry, build_server

EXAMPLES = int(os.environ.get("HATSTAND_SCHEMATHESIS", "4"))
DOCUMENTS: Mapping[str, Mapping[str, Any]] = {
    "server": server_document(version="0", tunes=True)["paths"],
    "registry": registry_document()["paths"],
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
    for api, paths in DOCUMENTS.items()
    for path, methods in paths.items()
    for method in methods
    if (method, path) not in LEFT_OUT
]


class Described:
    """An API with its document, asked in this process."""

    def __init__(self, api: str, folder: Path) -> None:
        app, self._key = BUILDERS[api](folder)

        async def kept(scope: Scope, receive: Receive, send: Send) -> None:
            """Without a lifespan, which schemathesis would end after each test."""
            if scope["type"] == "lifespan":
                raise RuntimeError("none")
            await app(scope, receive, send)

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
        def run(case: schemathesis.Case) -> None:
            headers = {"authorization": self._key} if self._key else None
            case.call_and_validate(headers=headers, excluded_checks=NOT_CHECKED)

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
        assert "requestBody" not in DOCUMENTS[api][path][method]  # nothing in it can be wrong
