"""Files, jobs, events and checkpoints as OpenAI's objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from registry.tuning import Job
from registry.tuning.files import StoredFile
from registry.tuning.records import Checkpoint, JobEvent
from server.api.documents.tuning import (
    CheckpointCard,
    EventCard,
    FileCard,
    JobCard,
    Page,
)

Card = TypeVar("Card", FileCard, JobCard, EventCard, CheckpointCard)


def file_document(file: StoredFile) -> FileCard:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.num_bytes,
        "created_at": file.created_at,
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
    }


def job_document(job: Job) -> JobCard:
    """`fine_tuned_model` is what `model` of a request may name from then on."""
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "model": job.model,
        "fine_tuned_model": job.fine_tuned_model,
        "organization_id": "hatstand",
        "status": job.status,
        "hyperparameters": dict(job.hyperparameters),
        "method": {
            "type": "supervised",
            "supervised": {"hyperparameters": dict(job.hyperparameters)},
        },
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "result_files": [] if job.result_file is None else [job.result_file],
        "trained_tokens": job.trained_tokens,
        "error": None if job.error is None else dict(job.error),
        "seed": job.seed,
        "metadata": dict(job.labels),
        "integrations": [],
        "estimated_finish": None,
        "recipe": dict(job.recipe),
    }


def event_document(event: JobEvent) -> EventCard:
    return {
        "id": event.id,
        "object": "fine_tuning.job.event",
        "created_at": event.created_at,
        "level": event.level,
        "type": event.type,
        "message": event.message,
        "data": dict(event.data),
    }


def checkpoint_document(checkpoint: Checkpoint, job_id: str) -> CheckpointCard:
    """`fine_tuned_model_checkpoint` is empty until a version was made of the checkpoint."""
    return {
        "id": checkpoint.id,
        "object": "fine_tuning.job.checkpoint",
        "created_at": checkpoint.created_at,
        "fine_tuning_job_id": job_id,
        "fine_tuned_model_checkpoint": checkpoint.model or "",
        "step_number": checkpoint.step,
        "metrics": {"step": checkpoint.step, **checkpoint.metrics},
    }


def list_document(data: Sequence[Card], *, has_more: bool) -> Page[Card]:
    """One page, newest first; `last_id` is the `after` of the next."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }
