"""Canaries and splits as JSON, and back: what travels over HTTP."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from registry.documents import read_version, version_document

from .canaries import Standing
from .judging import Evidence, Judgement
from .outcomes import Outcomes
from .record import Canary, Split
from .rules import Rules


def split_document(split: Split) -> dict[str, Any]:
    """How an alias's requests are split."""
    return {
        "canary": split.canary,
        "alias": split.alias,
        "step": split.step,
        "weight": split.weight,
        "target": version_document(split.target),
    }


def read_split(values: Mapping[str, Any]) -> Split:
    """A split from its document."""
    return Split(**{**values, "target": read_version(values["target"])})


def canary_document(canary: Canary) -> dict[str, Any]:
    """A canary with both versions and its rules."""
    return {
        "id": canary.id,
        "name": canary.name,
        "alias": canary.alias,
        "stable": version_document(canary.stable),
        "target": version_document(canary.target),
        "rules": canary.rules.model_dump(mode="json"),
        "step": canary.step,
        "weight": canary.weight,
        "state": canary.state,
        "started_at": canary.started_at.isoformat(),
        "step_at": canary.step_at.isoformat(),
        "ended_at": canary.ended_at and canary.ended_at.isoformat(),
        "by": canary.by,
        "why": canary.why,
        "verdict": canary.verdict,
        "etag": canary.etag,
    }


def read_canary(values: Mapping[str, Any]) -> Canary:
    """A canary from its document."""
    plain = ("id", "name", "alias", "step", "state", "by", "why", "verdict")
    ended_at = values["ended_at"]
    return Canary(
        **{name: values[name] for name in plain},
        stable=read_version(values["stable"]),
        target=read_version(values["target"]),
        rules=Rules.read(values["rules"]),
        started_at=datetime.fromisoformat(values["started_at"]),
        step_at=datetime.fromisoformat(values["step_at"]),
        ended_at=None if ended_at is None else datetime.fromisoformat(ended_at),
    )


def standing_document(standing: Standing) -> dict[str, Any]:
    """A canary, how the requests of its step went, and what the rules say to that."""
    evidence = standing.evidence
    return {
        **canary_document(standing.canary),
        "evidence": {
            "seconds": evidence.seconds,
            "stable": evidence.stable.to_dict(),
            "target": evidence.target.to_dict(),
            "metrics": dict(evidence.metrics),
            "refusal": evidence.refusal,
        },
        "judgement": dataclasses.asdict(standing.judgement),
    }


def read_standing(values: Mapping[str, Any]) -> Standing:
    """A canary's standing from its document."""
    evidence = values["evidence"]
    read = {side: Outcomes.read(evidence[side], source=side) for side in ("stable", "target")}
    return Standing(
        read_canary(values), Evidence(**{**evidence, **read}), Judgement(**values["judgement"])
    )
