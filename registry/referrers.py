"""What is said about a version later: evaluations, approvals, signatures.

A referrer is an OCI manifest whose `subject` is the version's digest, so the version stays as it
is. Its content is one JSON blob.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from .canonical import canonical_json, digest_of
from .commit import set_metrics
from .errors import BlobsMissing, InvalidRequest
from .events import record
from .manifest import MANIFEST_TYPE
from .tables import referrer
from .versions import Version, now, version_key

if TYPE_CHECKING:
    from .embedded import Registry

EVALUATION = "application/vnd.hatstand.evaluation.v1+json"
_EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
LARGEST = 1 << 20  # bytes of content
_MOST_METRICS = 100


@dataclass(frozen=True)
class Referrer:
    """One statement about the version `subject`; `manifest` is the OCI manifest's text."""

    subject: str
    digest: str
    artifact_type: str
    manifest: str
    at: datetime
    by: str


def add_referrer(
    registry: Registry, version: Version, artifact_type: str, content: Mapping[str, Any], *, by: str
) -> Referrer:
    """State something about a version; the same statement again is the one that is there.

    The numbers under `metrics` of an evaluation become searchable. Raises `InvalidRequest`.
    """
    body = _check(artifact_type, content)
    manifest = _manifest(version, artifact_type, body)
    with registry.staging.stage() as staging:
        for part in (_EMPTY, body, manifest):
            staging.add_bytes(part)
        staging.publish(registry.blobs)
    with registry.catalog.write() as connection:
        absent = [
            digest
            for digest in map(digest_of, (_EMPTY, body, manifest))
            if registry.blobs.find(digest) is None
        ]
        if absent:
            raise BlobsMissing(absent)
        row = {"subject": version.digest, "digest": digest_of(manifest)}
        mine = [referrer.c[column] == value for column, value in row.items()]
        if connection.execute(sa.select(referrer).where(*mine)).first() is None:
            row |= {"artifact_type": artifact_type, "manifest": manifest.decode(), "by": by}
            connection.execute(sa.insert(referrer).values(at=now(), **row))
            if artifact_type == EVALUATION:
                metrics = content.get("metrics", {})
                set_metrics(connection, version_key(connection, version), metrics)
            data = {"digest": row["digest"], "subject": version.digest, "version": version.number}
            record(connection, "referrer.added", version.name, by=by, **data)
        found = connection.execute(sa.select(referrer).where(*mine)).one()
    return _referrer(found)


def list_referrers(registry: Registry, subject: str, artifact_type: str = "") -> list[Referrer]:
    """What is said about the version with that digest, oldest first."""
    query = sa.select(referrer).where(referrer.c.subject == subject).order_by(referrer.c.id)
    if artifact_type:
        query = query.where(referrer.c.artifact_type == artifact_type)
    with registry.catalog.read() as connection:
        return [_referrer(row) for row in connection.execute(query)]


def _check(artifact_type: str, content: Mapping[str, Any]) -> bytes:
    """The content's bytes, once everything about it is in order."""
    if not 0 < len(artifact_type) <= 255 or not artifact_type.isprintable():
        raise InvalidRequest("artifact_type must be a media type", param="artifact_type")
    try:
        body = canonical_json(content)
    except ValueError as failure:
        raise InvalidRequest(f"content: {failure}", param="content") from None
    if len(body) > LARGEST:
        raise InvalidRequest(f"content is over {LARGEST} bytes", param="content")
    metrics = content.get("metrics", {}) if artifact_type == EVALUATION else {}
    if not isinstance(metrics, Mapping) or len(metrics) > _MOST_METRICS:
        raise InvalidRequest("metrics must map at most 100 names to numbers", param="metrics")
    for name, value in metrics.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not 0 < len(name) <= 63:
            raise InvalidRequest(f"metric {name[:63]!r} is no finite number", param="metrics")
    return body


def _manifest(version: Version, artifact_type: str, body: bytes) -> bytes:
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": artifact_type,
            "config": {"mediaType": _EMPTY_TYPE, "digest": digest_of(_EMPTY), "size": len(_EMPTY)},
            "layers": [
                {"mediaType": artifact_type, "digest": digest_of(body), "size": len(body)},
            ],
            "subject": {
                "mediaType": MANIFEST_TYPE,
                "digest": version.digest,
                "size": len(version.manifest.to_bytes()),
            },
        }
    )


def _referrer(row: Any) -> Referrer:
    return Referrer(
        subject=row.subject,
        digest=row.digest,
        artifact_type=row.artifact_type,
        manifest=row.manifest,
        at=row.at.replace(tzinfo=UTC),
        by=row.by,
    )
