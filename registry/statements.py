"""Saying something about a version, and hearing what was said, wherever its registry is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import Corrupted
from .identity import whoami
from .opening import AnyRegistry
from .referrers import LARGEST, add_referrer, list_referrers
from .remote.registry import RemoteRegistry
from .validation import parse_object
from .versions import Version


@dataclass(frozen=True)
class Statement:
    """What somebody said about a version: `digest` is the referrer's, `content` its one blob."""

    digest: str
    content: Mapping[str, Any]


def state(
    registry: AnyRegistry, version: Version, artifact_type: str, content: Mapping[str, Any]
) -> str:
    """Attach a referrer to a version; its digest. The same statement twice is one.

    Raises `InvalidRequest`, and what a registry elsewhere answers.
    """
    if isinstance(registry, RemoteRegistry):
        path = f"/adapters/{version.name}/versions/{version.number}/referrers"
        body = {"artifact_type": artifact_type, "content": dict(content)}
        answer = registry.connection.call("POST", path, json=body)
        return str(answer.json()["digest"])
    return add_referrer(registry, version, artifact_type, content, by=whoami()).digest


def statements(registry: AnyRegistry, version: Version, artifact_type: str) -> list[Statement]:
    """What was said about a version in one artifact type, oldest first; digests are checked.

    Raises what the registry may answer, and `Corrupted`.
    """
    if isinstance(registry, RemoteRegistry):
        path = f"/adapters/{version.name}/versions/{version.number}/referrers"
        answer = registry.connection.call("GET", path, params={"artifact_type": artifact_type})
        found = [(each["digest"], each["manifest"]) for each in answer.json()["referrers"]]
    else:
        listed = list_referrers(registry, version.digest, artifact_type)
        found = [(each.digest, json.loads(each.manifest)) for each in listed]
    return [Statement(digest, _content(registry, manifest)) for digest, manifest in found]


def _content(registry: AnyRegistry, manifest: Mapping[str, Any]) -> dict[str, Any]:
    layer = manifest["layers"][0]
    digest, size = str(layer["digest"]), int(layer["size"])
    if size > LARGEST:
        raise Corrupted(f"a statement of {size} bytes is over the limit of {LARGEST}", param=digest)
    content = registry.blobs.local(digest, size).read_bytes()
    return parse_object(content, source="statement", error=Corrupted)
