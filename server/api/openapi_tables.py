"""What GET /openapi.json says of each operation beside its body: statuses, queries, headers.

Apart from 200 an operation answers with these statuses and no others; requests that reach none (no
such path, wrong method) and a bug (500 `internal_error`) belong to none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .wishes import ADAPTER, COLD, POLICIES, SESSION

_KEY = (401, 403)
_READ = (400, *_KEY)
_NAMED = (*_READ, 404, 409, 503)  # `model` may be unknown, ambiguous, another base's, not reachable
_GENERATING = (*_READ, 404, 409, 413, 429, 500, 503, 504)
_FOUND = (*_KEY, 404)
_LISTED = (*_READ, 503)
_JOB = (*_KEY, 404, 503)

STATUSES: Mapping[tuple[str, str], tuple[int, ...]] = {
    ("/v1/chat/completions", "post"): _GENERATING,
    ("/v1/completions", "post"): _GENERATING,
    ("/v1/responses", "post"): _GENERATING,
    ("/v1/embeddings", "post"): _GENERATING,
    ("/v1/responses/{response_id}", "get"): (*_FOUND, 400),
    ("/v1/responses/{response_id}", "delete"): (*_FOUND, 400),
    ("/v1/responses/{response_id}/input_items", "get"): (*_FOUND, 400),
    ("/tokenize", "post"): (*_NAMED, 413),
    ("/detokenize", "post"): (*_NAMED, 413),
    ("/v1/models", "get"): (*_KEY, 503),
    ("/v1/models/{model_id}", "get"): _NAMED,
    ("/v1/load_lora_adapter", "post"): (*_NAMED, 413, 504),
    ("/v1/unload_lora_adapter", "post"): (*_NAMED, 413, 504),
    ("/metrics", "get"): (),
    ("/healthz", "get"): (503,),
    ("/readyz", "get"): (503,),
    ("/debug/state", "get"): _KEY,
    ("/debug/batches", "get"): _KEY,
    ("/v1/files", "post"): (*_READ, 413, 429, 503, 507),
    ("/v1/files", "get"): (*_LISTED, 404),
    ("/v1/files/{file_id}", "get"): _JOB,
    ("/v1/files/{file_id}", "delete"): (*_JOB, 409),
    ("/v1/files/{file_id}/content", "get"): _JOB,
    ("/v1/fine_tuning/jobs", "post"): (*_READ, 404, 409, 413, 429, 503, 507),
    ("/v1/fine_tuning/jobs", "get"): (*_LISTED, 404),
    ("/v1/fine_tuning/jobs/{job_id}", "get"): _JOB,
    ("/v1/fine_tuning/jobs/{job_id}/cancel", "post"): (*_JOB, 409),
    ("/v1/fine_tuning/jobs/{job_id}/pause", "post"): (*_JOB, 409),
    ("/v1/fine_tuning/jobs/{job_id}/resume", "post"): (*_JOB, 409),
    ("/v1/fine_tuning/jobs/{job_id}/events", "get"): (*_JOB, 400),
    ("/v1/fine_tuning/jobs/{job_id}/checkpoints", "get"): (*_JOB, 400),
}
MEANINGS: Mapping[int, str] = {
    400: "Something about the request is wrong; `param` says what",
    401: "No API key, or not one of this server's",
    403: "The key lacks the scope",
    404: "There is nothing by that name",
    409: "It exists, but not in a state that allows this",
    413: "The body is over the limit",
    429: "The queue, or what may be kept, is full; Retry-After says when to come again",
    500: "The model's output became NaN or infinite",
    503: "Not at the moment; `code` says why",
    504: "It took longer than this server allows",
    507: "The disk is full",
}
PROBES = ("/healthz", "/readyz")  # their 503 is a document of their own
GENERATING = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")

_TEXT: Mapping[str, Any] = {"type": "string"}
_PAGE: Mapping[str, Any] = {
    "after": _TEXT,
    "limit": {"type": "integer", "minimum": 1, "maximum": 100},
}
QUERIES: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("/v1/responses/{response_id}/input_items", "get"): {
        **_PAGE,
        "order": {"enum": ["asc", "desc"]},
    },
    ("/v1/files", "get"): {
        **_PAGE,
        "limit": {"type": "integer", "minimum": 1, "maximum": 10_000},
        "purpose": _TEXT,
    },
    ("/v1/fine_tuning/jobs", "get"): _PAGE,
    ("/v1/fine_tuning/jobs/{job_id}/events", "get"): {**_PAGE, "stream": {"enum": ["true"]}},
    ("/v1/fine_tuning/jobs/{job_id}/checkpoints", "get"): _PAGE,
}
HEADERS: Mapping[str, Any] = {ADAPTER: _TEXT, COLD: {"enum": [*POLICIES]}, SESSION: _TEXT}
UPLOAD: Mapping[str, Any] = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"const": "fine-tune"},
    },
}
