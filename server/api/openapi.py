"""GET /openapi.json, made from the models that parse the bodies."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .adapter_body import LoadBody, UnloadBody
from .chat_body import ChatBody
from .completion_body import CompletionBody
from .embeddings import EmbeddingBody
from .openapi_tables import GENERATING, HEADERS, MEANINGS, PROBES, QUERIES, STATUSES, UPLOAD
from .responses.body import ResponsesBody
from .token_body import DetokenizeBody, TokenizeBody
from .tuning.job_body import JobBody

BODIES: tuple[type[BaseModel], ...] = (
    ChatBody,
    CompletionBody,
    ResponsesBody,
    EmbeddingBody,
    TokenizeBody,
    DetokenizeBody,
    LoadBody,
    UnloadBody,
    JobBody,
)
JSON = ("application/json",)
STREAMED = ("application/json", "text/event-stream")

# Path, method, summary, body, media types of the answer.
Operation = tuple[str, str, str, type[BaseModel] | None, tuple[str, ...]]

OPERATIONS: tuple[Operation, ...] = (
    ("/v1/chat/completions", "post", "Answer a chat", ChatBody, STREAMED),
    ("/v1/completions", "post", "Continue prompts", CompletionBody, STREAMED),
    ("/v1/responses", "post", "Answer, in the newer form", ResponsesBody, STREAMED),
    ("/v1/responses/{response_id}", "get", "A response that was kept", None, JSON),
    ("/v1/responses/{response_id}", "delete", "Forget a response", None, JSON),
    ("/v1/responses/{response_id}/input_items", "get", "What it was asked with", None, JSON),
    ("/v1/embeddings", "post", "Texts to vectors", EmbeddingBody, JSON),
    ("/tokenize", "post", "Text or chat to token ids", TokenizeBody, JSON),
    ("/detokenize", "post", "Token ids to text", DetokenizeBody, JSON),
    ("/v1/models", "get", "List what `model` may name", None, ("application/json",)),
    ("/v1/models/{model_id}", "get", "Look one model up", None, ("application/json",)),
    ("/v1/load_lora_adapter", "post", "Load an adapter", LoadBody, ("text/plain",)),
    ("/v1/unload_lora_adapter", "post", "Unload an adapter", UnloadBody, ("text/plain",)),
    ("/metrics", "get", "Prometheus metrics", None, ("text/plain",)),
    ("/healthz", "get", "Whether the engine runs", None, ("application/json",)),
    ("/readyz", "get", "Whether to send traffic", None, ("application/json",)),
    ("/debug/state", "get", "What the machine holds and does", None, ("application/json",)),
    ("/debug/batches", "get", "Which adapters shared a step", None, ("application/json",)),
)

TUNING_OPERATIONS: tuple[Operation, ...] = (
    ("/v1/files", "post", "Upload rows to train on, as a form", None, JSON),
    ("/v1/files", "get", "List files", None, JSON),
    ("/v1/files/{file_id}", "get", "Look one file up", None, JSON),
    ("/v1/files/{file_id}", "delete", "Delete a file", None, JSON),
    ("/v1/files/{file_id}/content", "get", "Get a file back", None, ("application/octet-stream",)),
    ("/v1/fine_tuning/jobs", "post", "Have an adapter trained", JobBody, JSON),
    ("/v1/fine_tuning/jobs", "get", "List jobs", None, JSON),
    ("/v1/fine_tuning/jobs/{job_id}", "get", "Look one job up", None, JSON),
    ("/v1/fine_tuning/jobs/{job_id}/cancel", "post", "End a job", None, JSON),
    ("/v1/fine_tuning/jobs/{job_id}/pause", "post", "Stop a job for now", None, JSON),
    ("/v1/fine_tuning/jobs/{job_id}/resume", "post", "Go on with a job", None, JSON),
    ("/v1/fine_tuning/jobs/{job_id}/events", "get", "What a job did", None, STREAMED),
    ("/v1/fine_tuning/jobs/{job_id}/checkpoints", "get", "A job's checkpoints", None, JSON),
)


def openapi_document(*, version: str, tunes: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 description of every path; those of fine-tuning where the server `tunes`."""
    mode: Literal["validation"] = "validation"
    _, schemas = models_json_schema(
        [(body, mode) for body in BODIES], ref_template="#/components/schemas/{model}"
    )
    operations = OPERATIONS + (TUNING_OPERATIONS if tunes else ())
    paths: dict[str, dict[str, Any]] = {}
    for path, method, summary, body, media_types in operations:
        operation = _operation(summary, body, media_types)
        operation["responses"] |= {
            str(status): _refusal(status, path) for status in sorted(STATUSES[path, method])
        }
        if (path, method) == ("/v1/files", "post"):
            form = {"multipart/form-data": {"schema": UPLOAD}}
            operation["requestBody"] = {"required": True, "content": form}
        if parameters := _parameters(path, method):
            operation["parameters"] = parameters
        paths.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Hatstand", "version": version},
        "paths": paths,
        "components": {
            "schemas": {**schemas["$defs"], "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(
    summary: str, body: type[BaseModel] | None, media_types: tuple[str, ...]
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": "OK", "content": {kind: {} for kind in media_types}}},
    }
    if body is not None:
        schema = {"schema": _reference(body.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": schema}}
    return operation


def _refusal(status: int, path: str) -> dict[str, Any]:
    schema = {"type": "object"} if path in PROBES else _reference("Error")
    return {
        "description": MEANINGS[status],
        "content": {"application/json": {"schema": schema}},
    }


def _parameters(path: str, method: str) -> list[dict[str, Any]]:
    named: list[tuple[str, str, Any]]
    named = [(name, "path", {"type": "string"}) for name in re.findall(r"{(\w+)}", path)]
    named += [(name, "query", schema) for name, schema in QUERIES.get((path, method), {}).items()]
    if path in GENERATING:
        named += [(name, "header", schema) for name, schema in HEADERS.items()]
    return [
        {"name": name, "in": place, "required": place == "path", "schema": schema}
        for name, place, schema in named
    ]


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
