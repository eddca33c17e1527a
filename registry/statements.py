"""Saying something about a version, wherever its registry is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .identity import whoami
from .opening import AnyRegistry
from .referrers import add_referrer
from .remote.registry import RemoteRegistry
from .versions import Version


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
