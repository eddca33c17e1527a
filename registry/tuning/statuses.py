"""The states of a job, in OpenAI's words."""

from __future__ import annotations

from typing import Literal

Status = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]

UNFINISHED: tuple[Status, ...] = ("queued", "running", "paused")
FINISHED: tuple[Status, ...] = ("succeeded", "failed", "cancelled")
