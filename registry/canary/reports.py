"""What servers say of the requests they answered, added up into evidence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.errors import InvalidRequest
from registry.tables import canary_report, metric
from registry.versions import now, version_key

from .judging import Evidence
from .outcomes import Outcomes
from .record import Canary

_MOST_HOLDERS = 512  # servers that report on one step of a canary
_LONGEST_REFUSAL = 500  # characters


@dataclass(frozen=True)
class Report:
    """All that one server (`holder`) has seen of one step so far; the next report replaces it.

    `refusal` is why the server cannot serve the canary's version, where it cannot.
    """

    canary: int
    step: int
    holder: str
    stable: Outcomes = field(default_factory=Outcomes)
    target: Outcomes = field(default_factory=Outcomes)
    refusal: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "canary": self.canary,
            "step": self.step,
            "holder": self.holder,
            "stable": self.stable.to_dict(),
            "target": self.target.to_dict(),
            "refusal": self.refusal,
        }

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Report:
        """From JSON; raises `InvalidRequest`."""
        numbers = [values.get(key) for key in ("canary", "step")]
        if not all(type(each) is int and 0 <= each < 2**31 for each in numbers):
            raise InvalidRequest("a report needs the numbers canary and step", param="canary")
        holder, refusal = values.get("holder"), values.get("refusal", "")
        if not isinstance(holder, str) or not 0 < len(holder) <= 255:
            raise InvalidRequest("a report needs a holder", param="holder")
        if not isinstance(refusal, str):
            raise InvalidRequest("refusal must be a text", param="refusal")
        return cls(
            canary=values["canary"],
            step=values["step"],
            holder=holder,
            stable=Outcomes.read(values.get("stable") or {}, source="stable"),
            target=Outcomes.read(values.get("target") or {}, source="target"),
            refusal=refusal,
        )


def write_report(connection: Connection, running: Canary, report: Report) -> None:
    """Keep a server's newest report; one on a step or a canary that is over counts no more."""
    if (report.canary, report.step) != (running.id, running.step):
        return
    mine = (
        canary_report.c.canary_id == running.id,
        canary_report.c.step == report.step,
        canary_report.c.holder == report.holder,
    )
    row = {
        "at": now(),
        "stable": json.dumps(report.stable.to_dict()),
        "target": json.dumps(report.target.to_dict()),
        "refusal": report.refusal[:_LONGEST_REFUSAL],
    }
    if connection.execute(sa.update(canary_report).where(*mine).values(row)).rowcount:
        return
    _check_room(connection, running)
    row |= {"canary_id": running.id, "step": report.step, "holder": report.holder}
    connection.execute(sa.insert(canary_report).values(row))


def gather(connection: Connection, running: Canary) -> Evidence:
    """What all servers together have seen of the running step, and the version's metrics."""
    rows = connection.execute(
        sa.select(canary_report)
        .where(canary_report.c.canary_id == running.id, canary_report.c.step == running.step)
        .order_by(canary_report.c.holder)
    ).all()
    metrics = connection.execute(
        sa.select(metric.c.name, metric.c.value).where(
            metric.c.version_id == version_key(connection, running.target)
        )
    )
    return Evidence(
        seconds=(now() - running.step_at.replace(tzinfo=None)).total_seconds(),
        stable=_total(row.stable for row in rows),
        target=_total(row.target for row in rows),
        metrics={row.name: row.value for row in metrics},
        refusal=next((row.refusal for row in rows if row.refusal), ""),
    )


def _total(texts: Iterable[str]) -> Outcomes:
    read = (Outcomes.read(json.loads(text), source="report") for text in texts)
    return reduce(add, read, Outcomes())


def _check_room(connection: Connection, running: Canary) -> None:
    counted = sa.select(sa.func.count()).where(
        canary_report.c.canary_id == running.id, canary_report.c.step == running.step
    )
    if connection.execute(counted).scalar_one() >= _MOST_HOLDERS:
        raise InvalidRequest(
            f"{_MOST_HOLDERS} servers report on the canary of {running.ref} already",
            param="holder",
        )
