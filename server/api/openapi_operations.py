"""Every operation that GET /openapi.json lists: what it takes and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from registry.closed_schema import BYTES, TEXT

from .adapter_body import LoadBody, UnloadBody
from .chat_body import ChatBody
from .completion_body import CompletionBody
from .documents.chat import ChatAnswer, ChatChunk
from .documents.completion import Completion
from .documents.embedding import Embeddings
from .documents.model import ModelCard, ModelCards
from .documents.response import InputItems, ResponseObject
from .documents.response_event import ResponseEvent
from .documents.status import Batches, Health, Ready, State
from .documents.token import Tokens, TokenText
from .documents.tuning import CheckpointCard, Deleted, EventCard, FileCard, JobCard, Page
from .embeddings import EmbeddingBody
from .responses.body import ResponsesBody
from .token_body import DetokenizeBody, TokenizeBody
from .tuning.job_body import JobBody


@dataclass(frozen=True)
class Operation:
    """A path with a method.

    answer: the type of the JSON that 200 comes with, or another media type. event: the type of what
    a stream's events hold, where the answer may be one.
    """

    path: str
    method: str
    summary: str
    answer: Any
    body: type[BaseModel] | None = None
    event: Any = None


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "/v1/chat/completions", "post", "Answer a chat", ChatAnswer, ChatBody, event=ChatChunk
    ),
    Operation(
        "/v1/completions", "post", "Continue prompts", Completion, CompletionBody, event=Completion
    ),
    Operation(
        "/v1/responses",
        "post",
        "Answer, in the newer form",
        ResponseObject,
        ResponsesBody,
        event=ResponseEvent,
    ),
    Operation("/v1/responses/{response_id}", "get", "A response that was kept", ResponseObject),
    Operation("/v1/responses/{response_id}", "delete", "Forget a response", Deleted),
    Operation(
        "/v1/responses/{response_id}/input_items", "get", "What it was asked with", InputItems
    ),
    Operation("/v1/embeddings", "post", "Texts to vectors", Embeddings, EmbeddingBody),
    Operation("/tokenize", "post", "Text or chat to token ids", Tokens, TokenizeBody),
    Operation("/detokenize", "post", "Token ids to text", TokenText, DetokenizeBody),
    Operation("/v1/models", "get", "List what `model` may name", ModelCards),
    Operation("/v1/models/{model_id}", "get", "Look one model up", ModelCard),
    Operation("/v1/load_lora_adapter", "post", "Load an adapter", TEXT, LoadBody),
    Operation("/v1/unload_lora_adapter", "post", "Unload an adapter", TEXT, UnloadBody),
    Operation("/metrics", "get", "Prometheus metrics", TEXT),
    Operation("/healthz", "get", "Whether the engine runs", Health),
    Operation("/readyz", "get", "Whether to send traffic", Ready),
    Operation("/debug/state", "get", "What the machine holds and does", State),
    Operation("/debug/batches", "get", "Which adapters shared a step", Batches),
)

TUNING_OPERATIONS: tuple[Operation, ...] = (
    Operation("/v1/files", "post", "Upload rows to train on, as a form", FileCard),
    Operation("/v1/files", "get", "List files", Page[FileCard]),
    Operation("/v1/files/{file_id}", "get", "Look one file up", FileCard),
    Operation("/v1/files/{file_id}", "delete", "Delete a file", Deleted),
    Operation("/v1/files/{file_id}/content", "get", "Get a file back", BYTES),
    Operation("/v1/fine_tuning/jobs", "post", "Have an adapter trained", JobCard, JobBody),
    Operation("/v1/fine_tuning/jobs", "get", "List jobs", Page[JobCard]),
    Operation("/v1/fine_tuning/jobs/{job_id}", "get", "Look one job up", JobCard),
    Operation("/v1/fine_tuning/jobs/{job_id}/cancel", "post", "End a job", JobCard),
    Operation("/v1/fine_tuning/jobs/{job_id}/pause", "post", "Stop a job for now", JobCard),
    Operation("/v1/fine_tuning/jobs/{job_id}/resume", "post", "Go on with a job", JobCard),
    Operation(
        "/v1/fine_tuning/jobs/{job_id}/events",
        "get",
        "What a job did",
        Page[EventCard],
        event=EventCard,
    ),
    Operation(
        "/v1/fine_tuning/jobs/{job_id}/checkpoints",
        "get",
        "A job's checkpoints",
        Page[CheckpointCard],
    ),
)
