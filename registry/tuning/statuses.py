"""The states of a job, in OpenAI's words, and what its checkpoints are called."""

from __future__ import annotations

from typing import Literal

Status = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]

UNFINISHED: tuple[Status, ...] = ("queued", "running", "paused")
FINISHED: tuple[Status, ...] = ("succeeded", "failed", "cancelled")

CHECKPOINTS = ".ckpt"
"""Behind an adapter's name: the adapter whose versions are the checkpoints of its jobs."""
