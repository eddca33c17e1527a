"""Versions, adapters, events and the rest as JSON, and back: what travels over HTTP."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, NotRequired

from typing_extensions import TypedDict

from .alias_history import AliasEvent
from .canonical import canonical_json
from .errors import Corrupted
from .events import Event
from .keys import Key
from .leases import Lease
from .manifest import Manifest, ManifestDocument
from .recorded import Of
from .report import Report
from .summaries import AdapterSummary
from .versions import Version


class VersionDocument(TypedDict):
    """A version; `is_new` and `report` in the answer to its push."""

    ref: str
    name: str
    version: int
    digest: str
    size: int
    base_fingerprint: str
    created_at: str
    created_by: str
    manifest: ManifestDocument
    is_new: NotRequired[bool]
    report: NotRequired[Annotated[dict[str, Any], Of(Report)]]


class SummaryDocument(TypedDict):
    """An adapter at a glance."""

    name: str
    created_at: str
    num_versions: int
    aliases: dict[str, int]
    newest: VersionDocument


def version_document(version: Version) -> VersionDocument:
    """A version with its manifest, by which a reader can check the digest."""
    values: VersionDocument = {
        "ref": version.ref,
        "name": version.name,
        "version": version.number,
        "digest": version.digest,
        "size": version.size,
        "base_fingerprint": version.base_fingerprint,
        "created_at": version.created_at.isoformat(),
        "created_by": version.created_by,
        "manifest": version.manifest.to_dict(),
    }
    if version.report is not None:
        values["is_new"] = version.is_new
        values["report"] = dataclasses.asdict(version.report)
    return values


def read_version(values: Mapping[str, Any]) -> Version:
    """A version from its document, without its report.

    Raises `Corrupted` when the digest is not the manifest's.
    """
    manifest = Manifest.from_bytes(canonical_json(values["manifest"]))
    if manifest.digest != values["digest"]:
        raise Corrupted(f"{values['ref']} says {values['digest']} but is {manifest.digest}")
    return Version(
        name=values["name"],
        number=values["version"],
        digest=values["digest"],
        created_at=datetime.fromisoformat(values["created_at"]),
        created_by=values["created_by"],
        manifest=manifest,
        size=manifest.size,
        base_fingerprint=values["base_fingerprint"],
        is_new=values.get("is_new", False),
    )


def summary_document(adapter: AdapterSummary) -> SummaryDocument:
    """An adapter as JSON."""
    return {
        "name": adapter.name,
        "created_at": adapter.created_at.isoformat(),
        "num_versions": adapter.num_versions,
        "aliases": dict(adapter.aliases),
        "newest": version_document(adapter.newest),
    }


def read_summary(values: Mapping[str, Any]) -> AdapterSummary:
    """An adapter from its document."""
    return AdapterSummary(
        name=values["name"],
        created_at=datetime.fromisoformat(values["created_at"]),
        num_versions=values["num_versions"],
        newest=read_version(values["newest"]),
        aliases=values["aliases"],
    )


def document(value: AliasEvent | Event | Key | Lease) -> dict[str, Any]:
    """Any of the flat records; times as ISO 8601."""
    return {
        name: item.isoformat() if isinstance(item, datetime) else item
        for name, item in dataclasses.asdict(value).items()
    }


def read_alias_event(values: Mapping[str, Any]) -> AliasEvent:
    """A move of an alias from its document."""
    return AliasEvent(**{**values, "at": datetime.fromisoformat(values["at"])})


def read_event(values: Mapping[str, Any]) -> Event:
    """An event from its document."""
    return Event(**{**values, "at": datetime.fromisoformat(values["at"])})


def read_lease(values: Mapping[str, Any]) -> Lease:
    """A lease from its document."""
    return Lease(**{**values, "expires_at": datetime.fromisoformat(values["expires_at"])})
