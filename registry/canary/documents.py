"""Canaries and splits as JSON, and back: what travels over HTTP."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from typing_extensions import TypedDict

from registry.documents import VersionDocument, read_version, version_document
from registry.recorded import Of

from .canaries import Standing
from .judging import Evidence, Judgement
from .outcomes import Outcomes
from .record import Canary, Split
from .rules import Rules


class SplitDocument(TypedDict):
    """How an alias's requests are split; `weight` in per cent."""

    canary: int
    alias: str
    step: int
    weight: int
    target: VersionDocument


class CanaryDocument(TypedDict):
    """A canary with both versions and its rules."""

    id: int
    name: str
    alias: str
    stable: VersionDocument
    target: VersionDocument
    rules: Annotated[dict[str, Any], Of(Rules)]
    step: int
    weight: int
    state: str
    started_at: str
    step_at: str
    ended_at: str | None
    by: str
    why: str
    verdict: str
    etag: str


class OutcomesDocument(TypedDict):
    """How requests went: counts, and histograms of seconds."""

    requests: int
    errors: int
    ttft: list[int]
    inter_token: list[int]


class EvidenceDocument(TypedDict):
    """How the requests of a step went."""

    seconds: float
    stable: Annotated[dict[str, Any], Of(OutcomesDocument)]
    target: Annotated[dict[str, Any], Of(OutcomesDocument)]
    metrics: dict[str, float]
    refusal: str


class StandingDocument(CanaryDocument):
    """A canary, how its step went, and what the rules say to that."""

    evidence: EvidenceDocument
    judgement: Annotated[dict[str, Any], Of(Judgement)]


def split_document(split: Split) -> SplitDocument:
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


def canary_document(canary: Canary) -> CanaryDocument:
    """A canary as JSON."""
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
        "ended_at": None if canary.ended_at is None else canary.ended_at.isoformat(),
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


def standing_document(standing: Standing) -> StandingDocument:
    """How a canary stands, as JSON."""
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
