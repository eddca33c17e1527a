"""docs/api.md tells the truth: every parameter, error code and metric stands in it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from server import errors as serving_errors
from server import metrics
from server.api import errors as api_errors
from server.api.chat_body import ChatBody
from server.api.completion_body import CompletionBody
from server.api.embeddings import EmbeddingBody
from server.api.openapi_operations import OPERATIONS, TUNING_OPERATIONS
from server.api.responses.body import ResponsesBody
from server.api.responses.routes import ResponseNotFound
from server.errors import ServingError
from server.replicas import exposition

TEXT = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")


def codes() -> Iterator[str]:
    for module in (serving_errors, api_errors):
        for thing in vars(module).values():
            if isinstance(thing, type) and issubclass(thing, ServingError):
                yield thing.code
    yield ResponseNotFound.code


BODIES = (ChatBody, CompletionBody, ResponsesBody, EmbeddingBody)


@pytest.mark.parametrize("name", sorted({name for body in BODIES for name in body.model_fields}))
def test_every_parameter_is_documented(name: str) -> None:
    assert f"`{name}`" in TEXT or (name.startswith("guided_") and "`guided_*`" in TEXT)


@pytest.mark.parametrize("code", sorted(set(codes())))
def test_every_error_code_is_documented(code: str) -> None:
    assert f"`{code}`" in TEXT


PATHS = sorted({operation.path for operation in OPERATIONS + TUNING_OPERATIONS})


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_documented(path: str) -> None:
    assert path.replace("{model_id}", "{id}") in TEXT


@pytest.mark.anyio
async def test_every_metric_is_documented(client: httpx.AsyncClient) -> None:
    await client.post("/v1/load_lora_adapter", json={"lora_name": "sql"})
    await client.post("/v1/completions", json={"model": "sql", "prompt": "x"})
    exported = (await client.get("/metrics")).text
    for family in text_string_to_metric_families(exported):
        if not family.name.endswith("_created"):
            assert f"`{family.name}" in TEXT, family.name


@pytest.mark.parametrize("module", [metrics, exposition])
def test_metrics_that_only_some_servers_have_are_documented(module: ModuleType) -> None:
    """A registry elsewhere, several replicas: by the names in the source."""
    names = re.findall(r'"(hatstand_\w+)"', inspect.getsource(module))
    assert names
    assert [name for name in names if f"`{name}" not in TEXT] == []
