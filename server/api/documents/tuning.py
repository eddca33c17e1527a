"""Files, fine-tuning jobs, their events and checkpoints, as OpenAI's objects."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from typing_extensions import TypedDict


class FileCard(TypedDict):
    """A file of rows to train on."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"]


class Deleted(TypedDict):
    """What is gone now."""

    id: str
    object: Literal["file", "response"]
    deleted: Literal[True]


class JobSupervised(TypedDict):
    """The hyperparameters, once more."""

    hyperparameters: dict[str, Any]


class JobMethod(TypedDict):
    """How a job trains."""

    type: Literal["supervised"]
    supervised: JobSupervised


class JobCard(TypedDict):
    """A job; `fine_tuned_model` is what `model` of a request may name from then on."""

    id: str
    object: Literal["fine_tuning.job"]
    created_at: int
    finished_at: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str
    status: str
    hyperparameters: dict[str, Any]
    method: JobMethod
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    error: dict[str, Any] | None
    seed: int
    metadata: dict[str, str]
    integrations: list[Any]
    estimated_finish: None
    recipe: dict[str, Any]


class EventCard(TypedDict):
    """Something that a job did."""

    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: str
    type: str
    message: str
    data: dict[str, Any]


class CheckpointCard(TypedDict):
    """Where a job could go on from; no model until a version was made of it."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str
    step_number: int
    metrics: dict[str, float]


Card = TypeVar("Card")


class Page(TypedDict, Generic[Card]):
    """One page of a list; `last_id` is the `after` of the next."""

    object: Literal["list"]
    data: list[Card]
    first_id: str | None
    last_id: str | None
    has_more: bool
