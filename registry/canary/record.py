"""A canary as the catalog keeps it, and the split that it makes of requests."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from registry.versions import Version

from .rules import Rules

State = Literal["running", "promoted", "aborted"]


@dataclass(frozen=True)
class Canary:
    """One trial of the version `target` behind an alias that points at `stable`.

    `step` counts from 0; `why` is why it was begun and `verdict` what was last said of it.
    """

    id: int
    name: str
    alias: str
    stable: Version
    target: Version
    rules: Rules
    step: int
    state: State
    started_at: datetime
    step_at: datetime  # when the step began
    ended_at: datetime | None
    by: str
    why: str
    verdict: str

    @property
    def ref(self) -> str:
        """`name@alias`, for people and logs."""
        return f"{self.name}@{self.alias}"

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    @property
    def weight(self) -> int:
        """Its share of the requests now, in per cent."""
        return self.rules.steps[self.step] if self.is_running else 0

    @property
    def etag(self) -> str:
        """What changes with every decision about it."""
        return f"{self.id}.{self.step}.{self.state}"

    @property
    def split(self) -> Split:
        """What servers need to know of it."""
        return Split(self.id, self.alias, self.step, self.weight, self.target)


@dataclass(frozen=True)
class Split:
    """Which share of an alias's requests goes to another version: `weight` per cent to `target`."""

    canary: int  # the canary's id
    alias: str
    step: int
    weight: int
    target: Version

    def takes(self, session: str) -> bool:
        """Whether a session's requests go to the canary's version.

        The same session gives the same answer everywhere, without anybody being asked, and one that
        was taken stays taken when the weight grows. An empty session is a chance of its own.
        """
        session = session or secrets.token_hex(16)
        digest = hashlib.sha256(f"{self.canary}\n{session}".encode("utf-8", "replace")).digest()
        return int.from_bytes(digest[:8]) < self.weight * 2**64 // 100


@dataclass(frozen=True)
class Route:
    """Where a name leads: to `stable`, and through `split` for a part of the requests."""

    stable: Version
    split: Split | None = None
