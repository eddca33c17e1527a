"""A registry behind a URL, with the methods of one in a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from registry.alias_history import AliasEvent
from registry.aliases import ABSENT
from registry.bases import BaseRecord
from registry.blob_cache import BlobCache
from registry.bundle import DEFAULT_SIZE_LIMIT
from registry.canary.record import Route, Split
from registry.candidate import Candidate, prepare
from registry.canonical import Progress
from registry.contents import Contents
from registry.documents import read_alias_event, read_event, read_lease, read_summary, read_version
from registry.errors import BlobsMissing, InvalidReference, RegistryUnreachable
from registry.events import Event
from registry.homes import adapter_cache
from registry.leases import Lease
from registry.pages import LARGEST_PAGE
from registry.references import Reference, check_alias, check_name, parse_reference
from registry.snapshot import Snapshot
from registry.staging import Staging, StagingArea
from registry.summaries import AdapterSummary
from registry.verification import VersionCheck, verify_version
from registry.versions import Version

from .blobs import RemoteBlobs
from .canaries import RemoteCanaries
from .connection import Connection, said

_ATTEMPTS = 3  # of a commit whose blobs were collected meanwhile


class RemoteRegistry(Contents):
    """Adapters, versions and aliases of a registry's server, from any thread.

    Digests are checked on everything that arrives. Errors are those of `Registry`, and
    `RegistryUnreachable`.
    """

    def __init__(self, connection: Connection, cache: Path | None = None) -> None:
        self.connection = connection
        self._folder = cache or adapter_cache()
        self._cache = BlobCache(self._folder / "blobs")
        self._staging = StagingArea(self._folder / "pushes")
        self.blobs = self._blobs()
        self.canaries = RemoteCanaries(connection)

    @classmethod
    def open(cls, url: str) -> RemoteRegistry:
        """The registry at a URL; nothing is asked of it yet."""
        return cls(Connection.open(url))

    def push(
        self,
        folder: str | os.PathLike[str],
        name: str,
        *,
        alias: str | None = None,
        base: BaseRecord | None = None,
        by: str | None = None,  # noqa: ARG002 (the server knows who calls)
        why: str | None = None,
        progress: Progress | None = None,
        allow_new_base: bool = False,
        size_limit: int = DEFAULT_SIZE_LIMIT,
        tags: Sequence[str] = (),
    ) -> Version:
        """Check a folder here, upload what the server lacks, and have it checked and committed."""
        check_name(name)
        if alias is not None:
            check_alias(alias)
        labels = {
            "alias": alias or "",
            "why": why or "",
            "allow_new_base": allow_new_base,
            "tags": list(tags),
        }
        with self._staging.stage() as staging:
            candidate = prepare(
                Path(folder), staging, base=base, size_limit=size_limit, progress=progress
            )
            version = self._commit(name, candidate, staging, labels, progress)
        return replace(version, report=candidate.report, is_new=version.is_new)

    def resolve(self, reference: str | Reference) -> Version:
        """The version a reference means now: a bare name is alias `prod`, else the newest."""
        parsed = parse_reference(reference)
        target = parsed.alias or parsed.number or parsed.digest
        if target is not None:
            return read_version(self._get(f"/adapters/{parsed.name}/versions/{target}"))
        return self.snapshot(parsed.name).route(parsed).stable

    def route(self, reference: str | Reference) -> Route:
        """What `resolve` gives, and how requests are split while a canary runs there."""
        parsed = parse_reference(reference)
        if parsed.number is not None or parsed.digest is not None:
            return Route(self.resolve(parsed))
        return self.snapshot(parsed.name).route(parsed)

    def snapshot(self, name: str) -> Snapshot:
        """An adapter's newest version, aliases and splits, all of one moment."""
        return Snapshot.read(self._get(f"/adapters/{check_name(name)}"))

    def splits(self, name: str) -> list[Split]:
        """How the requests for an adapter's aliases are split now."""
        return list(self.snapshot(name).splits)

    def adapters(self) -> list[AdapterSummary]:
        """Every adapter that the key may read, by name."""
        found: list[AdapterSummary] = []
        after: str | None = ""
        while after is not None:
            page = self._get("/adapters", after=after, limit=LARGEST_PAGE)
            found += map(read_summary, page["adapters"])
            after = page["next"]
        return found

    def versions(self, name: str) -> list[Version]:
        """All versions of an adapter, oldest first."""
        documents = self._get(f"/adapters/{check_name(name)}/versions")["versions"]
        return [read_version(values) for values in documents]

    def aliases(self, name: str) -> dict[str, Version]:
        """Alias → version, of one adapter."""
        return dict(self.snapshot(name).aliases)

    def set_alias(
        self,
        name: str,
        alias: str,
        reference: str | Reference,
        *,
        expected: str | int | None = None,
        by: str | None = None,  # noqa: ARG002 (the server knows who calls)
        why: str = "",
    ) -> Version:
        """Point an alias of `name` at a version of `name`, and return that version."""
        parsed = parse_reference(reference)
        if parsed.name != check_name(name):
            raise InvalidReference(
                f"{name}@{alias} can point at versions of {name} only, not at {parsed}",
                param="reference",
            )
        answer = self.connection.call(
            "PUT",
            f"/adapters/{name}/aliases/{check_alias(alias)}",
            json={"target": str(parsed), "why": why},
            headers=_precondition(expected),
        )
        return read_version(said(answer))

    def alias_history(self, name: str, alias: str) -> list[AliasEvent]:
        """Every move of an alias, oldest first."""
        path = f"/adapters/{check_name(name)}/aliases/{check_alias(alias)}/history"
        return [read_alias_event(values) for values in self._get(path)["events"]]

    def rollback_alias(
        self,
        name: str,
        alias: str,
        *,
        expected: str | int | None = None,
        by: str | None = None,  # noqa: ARG002 (the server knows who calls)
        why: str = "",
    ) -> Version:
        """Point an alias where it pointed before, as a new event; returns that version."""
        path = f"/adapters/{check_name(name)}/aliases/{check_alias(alias)}/rollback"
        headers = _precondition(expected)
        return read_version(
            said(self.connection.call("POST", path, json={"why": why}, headers=headers))
        )

    def protect_alias(self, name: str, alias: str, *, is_protected: bool = True) -> None:
        """Let only keys with the verb `protect` move an alias, or any again."""
        path = f"/adapters/{check_name(name)}/aliases/{check_alias(alias)}/protection"
        self.connection.call("PUT" if is_protected else "DELETE", path)

    def withdraw(
        self,
        reference: str | Reference,
        *,
        by: str | None = None,  # noqa: ARG002 (the server knows who calls)
        why: str = "",
    ) -> Version:
        """Let nobody find a version any more."""
        version = self.resolve(reference)
        path = f"/adapters/{version.name}/versions/{version.number}"
        return read_version(said(self.connection.call("DELETE", path, params={"why": why})))

    def collect(self, *, grace: float, dry_run: bool) -> dict[str, Any]:
        """Have what nothing needs removed; what went, as the server's JSON. Seconds."""
        body = {"grace": grace, "dry_run": dry_run}
        answer: dict[str, Any] = said(self.connection.call("POST", "/collections", json=body))
        return answer

    def events(self, after: int = 0, *, limit: int = 1000) -> list[Event]:
        """What happened after the event of that number, oldest first."""
        answer = self._get("/events", after=after, limit=limit)
        return [read_event(values) for values in answer["events"]]

    def lease(self, digest: str, holder: str, seconds: float) -> Lease:
        """Say that `holder` uses a version for so many seconds; call again to prolong."""
        body = {"digest": digest, "holder": holder, "seconds": seconds}
        return read_lease(said(self.connection.call("PUT", "/leases", json=body)))

    def release(self, digest: str, holder: str) -> None:
        """Give a lease back early."""
        self.connection.call("DELETE", "/leases", params={"digest": digest, "holder": holder})

    def leases(self) -> list[Lease]:
        """The leases that have not expired."""
        return [read_lease(values) for values in self._get("/leases")["leases"]]

    def verify(
        self, reference: str | Reference | None = None, *, progress: Progress | None = None
    ) -> list[VersionCheck]:
        """Download, hash and lint one version, all of a bare name, or everything."""
        names = [adapter.name for adapter in self.adapters()] if reference is None else []
        if reference is not None:
            parsed = parse_reference(reference)
            if parsed != Reference(parsed.name):
                return [verify_version(self.resolve(parsed), self.blobs, progress=progress)]
            names = [parsed.name]
        versions = [version for name in names for version in self.versions(name)]
        return [verify_version(version, self.blobs, progress=progress) for version in versions]

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _commit(
        self,
        name: str,
        candidate: Candidate,
        staging: Staging,
        labels: Mapping[str, Any],
        progress: Progress | None,
    ) -> Version:
        body = {"manifest": candidate.manifest.to_dict(), **labels}
        for attempt in range(1, _ATTEMPTS + 1):
            staging.publish(self._blobs(progress))
            try:
                # A commit twice is the same version once, so a cut may be answered by another try.
                answer = self.connection.call(
                    "POST", f"/adapters/{name}/versions", json=body, attempts=_ATTEMPTS
                )
            except BlobsMissing:
                if attempt == _ATTEMPTS:
                    raise
            else:
                version = read_version(said(answer))
                if version.digest == candidate.manifest.digest:
                    return version
                break
        raise RegistryUnreachable(f"{self.connection.url} committed something else than was pushed")

    def _blobs(self, progress: Progress | None = None) -> RemoteBlobs:
        unfinished = self._folder / "uploads"
        return RemoteBlobs(self.connection, self._cache, unfinished, progress)

    def _get(self, path: str, **params: Any) -> Any:
        return said(self.connection.call("GET", path, params=params or None))


def _precondition(expected: str | int | None) -> dict[str, str]:
    if expected == ABSENT:
        return {"if-none-match": "*"}
    return {"if-match": "*" if expected is None else f'"{expected}"'}
