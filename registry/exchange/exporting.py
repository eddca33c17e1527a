"""A version to elsewhere: a Hub repository, an OCI layout, or a plain folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from registry.canonical import Progress
from registry.errors import InvalidReference
from registry.hub import SCHEME, HubReference, upload
from registry.opening import AnyRegistry
from registry.versions import Version

from .oci_layout import write_layout

OCI = "oci:"
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")  # OCI's own rule
_ANY_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # one letter is a drive of Windows


@dataclass(frozen=True)
class Exported:
    """Where a version went: `hf://org/name@commit`, `oci:DIR:TAG` or a folder."""

    version: Version
    target: str


def export(
    registry: AnyRegistry,
    reference: str,
    target: str,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Copy a version out. `target` is `hf://org/name[@branch]`, `oci:DIR[:TAG]` or a folder.

    `force` writes over a folder that is not empty. Raises `InvalidReference` for another scheme,
    and what the registry, the Hub or a pull may.
    """
    if _ANY_SCHEME.match(target) and not target.startswith((SCHEME, OCI)):
        raise InvalidReference(
            f"{target[:200]!r} begins with no scheme known here: write hf://ORG/NAME[@BRANCH], "
            f"oci:DIR[:TAG] or a folder; a folder of that name is {f'./{target[:200]}'!r}",
            param="target",
        )
    version = registry.resolve(reference)
    if target.startswith(SCHEME):
        return Exported(version, _to_hub(registry, version, HubReference.parse(target)))
    if target.startswith(OCI):
        folder, _, tag = target.removeprefix(OCI).partition(":")
        tag = _checked_tag(tag or f"{version.name}-{version.number}")
        write_layout(Path(folder), tag, version.manifest, registry.files(version))
        return Exported(version, f"{OCI}{folder}:{tag}")
    pinned = f"{version.name}@{version.digest}"
    registry.pull(pinned, target, force=force, progress=progress)
    return Exported(version, target)


def _checked_tag(tag: str) -> str:
    if not _TAG.fullmatch(tag):
        raise InvalidReference(
            f"{tag[:80]!r} is no tag: use letters, digits, '.', '_' or '-', at most 128, and "
            "neither '.' nor '-' first",
            param="target",
        )
    return tag


def _to_hub(registry: AnyRegistry, version: Version, reference: HubReference) -> str:
    message = f"{version.ref} ({version.digest})"
    commit = upload(registry.files(version), reference, message=message)
    return str(HubReference(reference.repository, commit))
