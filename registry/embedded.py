"""The registry itself: a catalog and blobs, used by servers and commands at once."""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .aliases import (
    AliasEvent,
    AliasMove,
    alias_history,
    protect_alias,
    protected_aliases,
    roll_back,
    set_alias,
)
from .bases import BaseRecord
from .blobs import Blobs, open_blobs
from .bundle import DEFAULT_SIZE_LIMIT
from .candidate import Candidate, prepare
from .canonical import Progress
from .catalog import Catalog
from .commit import NewVersion, add_version, check_base, withdraw_version
from .errors import BlobsMissing, CatalogUnavailable, InvalidReference
from .events import Event, events_after, newest_event
from .hats import HAT_FILE, TEMPLATE_FILE, Hat
from .homes import adapter_cache
from .leases import Lease, drop_lease, list_leases, take_lease
from .lint import read_hat
from .lock import LOCK_FILE, Lock
from .manifest import Manifest
from .pages import LARGEST_PAGE, Page, Search
from .pull import copy_out
from .references import Reference, check_alias, check_name
from .staging import StagingArea
from .summaries import AdapterSummary, list_adapters
from .verification import VersionCheck, verify_version
from .versions import (
    Version,
    alias_targets,
    every_version,
    find_version,
    list_versions,
    newest_version,
)

_CATALOG_FILE = "catalog.sqlite"
_BLOBS_FOLDER = "blobs"
_WORK_FOLDER = "staging"
_OUR_FOLDERS = (_BLOBS_FOLDER, "uploads")
_ATTEMPTS = 3  # of a push whose blobs are collected under it


class Registry:
    """Adapters, versions and aliases in a catalog, and their bytes in a store of blobs.

    Every method may be called from any thread, and several processes may have the same registry
    open: what one pushes, the others resolve at once. Errors are `RegistryError`s.
    """

    def __init__(self, folder: Path, catalog: Catalog, blobs: Blobs) -> None:
        self.folder = folder
        self.catalog = catalog
        self.blobs = blobs
        self.staging = StagingArea(_staging_folder(folder))

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        database: str | None = None,
        blobs: str | None = None,
    ) -> Registry:
        """Open the registry in `folder`, making or upgrading it first where needed.

        Catalog and blobs lie in the folder too, unless `database` (a `postgresql://` URL) or
        `blobs` (a folder, or a bucket's URL) put them elsewhere. Raises `CatalogUnavailable` when
        the folder holds something else or cannot be used.
        """
        path = Path(folder).expanduser().absolute()
        if "://" in os.fspath(folder):
            raise CatalogUnavailable(
                f"{os.fspath(folder)} is a URL: only folders can be opened here"
            )
        try:
            _check_is_ours(path)
            path.mkdir(parents=True, exist_ok=True)
            store = open_blobs(blobs or str(path / _BLOBS_FOLDER), adapter_cache() / "blobs")
            return cls(path, Catalog(database or path / _CATALOG_FILE), store)
        except OSError as failure:
            raise CatalogUnavailable(
                f"the registry {path} cannot be opened: {failure.strerror}"
            ) from failure

    def push(
        self,
        folder: str | os.PathLike[str],
        name: str,
        *,
        alias: str | None = None,
        base: BaseRecord | None = None,
        by: str | None = None,
        why: str | None = None,
        progress: Progress | None = None,
        allow_new_base: bool = False,
        size_limit: int = DEFAULT_SIZE_LIMIT,
        tags: Sequence[str] = (),
    ) -> Version:
        """Check an adapter folder and make it the next version of `name`.

        The same bytes give the version that is there already (`is_new` False). With `alias`, the
        alias moves in the same transaction. `base` is needed without `lock.json`, and compared
        with it otherwise. `size_limit` is in bytes. Raises a `PushRefused` and relatives; then
        nothing was stored.
        """
        check_name(name)
        if alias is not None:
            check_alias(alias)
        self.staging.sweep()
        labels = _Labels(by or whoami(), allow_new_base, tuple(tags))
        for attempt in range(1, _ATTEMPTS + 1):
            with self.staging.stage() as staging:
                candidate = prepare(
                    Path(folder), staging, base=base, size_limit=size_limit, progress=progress
                )
                new = labels.new_version(candidate)
                with self.catalog.read() as connection:
                    check_base(connection, name, new)
                # Bytes before the commit: whoever sees the version finds its files.
                staging.publish(self.blobs)
            try:
                move = AliasMove(new.by, why or "")
                version, is_new = self.commit(name, new, alias=alias, move=move)
            except BlobsMissing:  # an impatient collection took them before they were committed
                if attempt == _ATTEMPTS:
                    raise
            else:
                break
        return replace(version, report=candidate.report, is_new=is_new)

    def close(self) -> None:
        """Let go of the database's connections; the registry may be used again."""
        self.catalog.close()

    def commit(
        self, name: str, new: NewVersion, *, move: AliasMove | None = None, alias: str | None = None
    ) -> tuple[Version, bool]:
        """Make a manifest whose blobs are stored a version, and move the alias, at once or not.

        The flag says whether the version was not there before. Raises `BlobsMissing`.
        """
        with self.catalog.write() as connection:
            # A collection holds the same lock, so what is there now stays.
            self._check_blobs(new.manifest)
            version, is_new = add_version(connection, name, new)
            if alias is not None:
                set_alias(connection, alias, version, move or AliasMove(new.by))
            return version, is_new

    def _check_blobs(self, manifest: Manifest) -> None:
        digests = {manifest.digest, *(blob.digest for blob in manifest.files.values())}
        absent = [digest for digest in sorted(digests) if self.blobs.find(digest) is None]
        if absent:
            raise BlobsMissing(absent)

    def resolve(self, reference: str | Reference) -> Version:
        """The version a reference means now: a bare name is alias `prod`, else the newest.

        Raises `AdapterNotFound`, `VersionNotFound` or `AliasNotFound` with near matches,
        `AmbiguousReference`, or `InvalidReference`.
        """
        parsed = _parse(reference)
        with self.catalog.read() as connection:
            return find_version(connection, parsed)

    def files(self, version: Version) -> dict[str, Path]:
        """File name → path of its bytes, the lock included; raises `Corrupted`.

        Bytes are hashed on first use in this process, sizes compared every time. The paths are
        the registry's own: read them, never write.
        """
        return {
            name: self.blobs.local(blob.digest, blob.size)
            for name, blob in version.manifest.files.items()
        }

    def hat(self, version: Version) -> Hat:
        """The hat that travels with a version."""
        names = (HAT_FILE, TEMPLATE_FILE)
        blobs = {name: version.manifest.files.get(name) for name in names}
        return read_hat(
            {
                name: self.blobs.local(blob.digest, blob.size)
                for name, blob in blobs.items()
                if blob is not None
            }
        )

    def lock(self, version: Version) -> Lock:
        """What a version's behaviour depends on."""
        blob = version.manifest.files[LOCK_FILE]
        return Lock.from_bytes(self.blobs.local(blob.digest, blob.size).read_bytes())

    def adapters(self) -> list[AdapterSummary]:
        """Every adapter, by name."""
        found: list[AdapterSummary] = []
        after: str | None = ""
        while after is not None:
            page = self.search(after=after, limit=LARGEST_PAGE)
            found += page.items
            after = page.next
        return found

    def search(
        self, search: Search | None = None, *, after: str = "", limit: int = 100
    ) -> Page[AdapterSummary]:
        """One page of the adapters that `search` describes, by name."""
        with self.catalog.read() as connection:
            return list_adapters(connection, search, after=after, limit=limit)

    def versions(self, name: str) -> list[Version]:
        """All versions of an adapter, oldest first."""
        check_name(name)
        with self.catalog.read() as connection:
            return list_versions(connection, name)

    def aliases(self, name: str) -> dict[str, Version]:
        """Alias → version, of one adapter."""
        check_name(name)
        with self.catalog.read() as connection:
            find_version(connection, Reference(name))
            return alias_targets(connection, name)

    def set_alias(
        self,
        name: str,
        alias: str,
        reference: str | Reference,
        *,
        expected: str | int | None = None,
        by: str | None = None,
        why: str = "",
        may_move_protected: bool = True,
    ) -> Version:
        """Point an alias of `name` at a version of `name`, and return that version.

        With `expected` (a version number, a digest or prefix, or "none"), raises `AliasConflict`
        unless the alias points there now.
        """
        check_alias(alias)
        parsed = _parse(reference)
        if parsed.name != check_name(name):
            raise InvalidReference(
                f"{name}@{alias} can point at versions of {name} only, not at {parsed}",
                param="reference",
            )
        with self.catalog.write() as connection:
            target = find_version(connection, parsed)
            move = AliasMove(by or whoami(), why, expected, may_move_protected)
            set_alias(connection, alias, target, move)
            return target

    def alias_history(self, name: str, alias: str) -> list[AliasEvent]:
        """Every move of an alias, oldest first."""
        check_name(name)
        check_alias(alias)
        with self.catalog.read() as connection:
            return alias_history(connection, name, alias)

    def rollback_alias(
        self,
        name: str,
        alias: str,
        *,
        expected: str | int | None = None,
        by: str | None = None,
        why: str = "",
        may_move_protected: bool = True,
    ) -> Version:
        """Point an alias where it pointed before, as a new event; returns that version.

        Each further rollback goes one move further back.
        """
        check_name(name)
        check_alias(alias)
        with self.catalog.write() as connection:
            move = AliasMove(by or whoami(), why, expected, may_move_protected)
            return roll_back(connection, name, alias, move)

    def newest(self, name: str) -> Version:
        """The standing version with the highest number, whatever `prod` points at."""
        with self.catalog.read() as connection:
            return newest_version(connection, name) or find_version(connection, Reference(name))

    def protect_alias(
        self, name: str, alias: str, *, is_protected: bool = True, by: str | None = None
    ) -> None:
        """Let only keys with the verb `protect` move an alias over HTTP, or any again."""
        check_alias(alias)
        with self.catalog.write() as connection:
            protect_alias(connection, name, alias, is_protected=is_protected, by=by or whoami())

    def protected_aliases(self, name: str) -> set[str]:
        """The aliases of an adapter that are protected."""
        with self.catalog.read() as connection:
            return protected_aliases(connection, name)

    def withdraw(
        self, reference: str | Reference, *, by: str | None = None, why: str = ""
    ) -> Version:
        """Let nobody find a version any more; collections may then remove its bytes.

        Raises `VersionInUse` while an alias points at it. Its number stays taken; pushing the
        same bytes again brings it back.
        """
        with self.catalog.write() as connection:
            version = find_version(connection, _parse(reference))
            withdraw_version(connection, version, by=by or whoami(), why=why)
            return version

    def events(self, after: int = 0, *, limit: int = 1000) -> list[Event]:
        """What happened after the event of that number, oldest first."""
        with self.catalog.read() as connection:
            return events_after(connection, after, limit=limit)

    def newest_event(self) -> int:
        """The last event's number: the cursor that means "from now on"."""
        with self.catalog.read() as connection:
            return newest_event(connection)

    def lease(self, digest: str, holder: str, seconds: float) -> Lease:
        """Say that `holder` uses a version for so many seconds; call again to prolong."""
        with self.catalog.write() as connection:
            return take_lease(connection, digest, holder, seconds)

    def release(self, digest: str, holder: str) -> None:
        """Give a lease back early."""
        with self.catalog.write() as connection:
            drop_lease(connection, digest, holder)

    def leases(self) -> list[Lease]:
        """The leases that have not expired."""
        with self.catalog.read() as connection:
            return list_leases(connection)

    def verify(
        self, reference: str | Reference | None = None, *, progress: Progress | None = None
    ) -> list[VersionCheck]:
        """Re-hash and re-lint one version, all versions of a bare name, or everything."""
        with self.catalog.read() as connection:
            if reference is None:
                versions = every_version(connection)
            else:
                parsed = _parse(reference)
                if parsed == Reference(parsed.name):
                    versions = list_versions(connection, parsed.name)
                else:
                    versions = [find_version(connection, parsed)]
        return [verify_version(version, self.blobs, progress=progress) for version in versions]

    def pull(
        self,
        reference: str | Reference,
        folder: str | os.PathLike[str],
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Version:
        """Copy a version's files into `folder`, verified; pushing it again gives this version.

        Raises `DestinationExists` when the folder is not empty, unless `force`.
        """
        version = self.resolve(reference)
        copy_out(self.blobs, version.manifest.files, Path(folder), force=force, progress=progress)
        return version


@dataclass(frozen=True)
class _Labels:
    """What a push says of its version beside the files."""

    by: str
    allow_new_base: bool
    tags: tuple[str, ...]

    def new_version(self, candidate: Candidate) -> NewVersion:
        return NewVersion(
            candidate.manifest,
            candidate.base_fingerprint,
            self.by,
            self.allow_new_base,
            base_name=candidate.lock.base.name,
            tags=self.tags,
            metrics=candidate.lock.metrics,
        )


def _parse(reference: str | Reference) -> Reference:
    return reference if isinstance(reference, Reference) else Reference.parse(reference)


def whoami() -> str:
    """Who runs this process, for the history."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid-{os.getuid()}"


def _staging_folder(folder: Path) -> Path:
    """On the same disk as the blobs where they are local, so that a rename moves them in."""
    return folder / _BLOBS_FOLDER / _WORK_FOLDER


def _check_is_ours(folder: Path) -> None:
    """Refuse to scatter a registry among somebody's files."""
    if not folder.is_dir() or (folder / _CATALOG_FILE).exists():
        return
    # Where the catalog is in PostgreSQL, its file is not there to tell.
    strangers = [entry.name for entry in folder.iterdir() if entry.name not in _OUR_FOLDERS]
    if strangers:
        raise CatalogUnavailable(
            f"{folder} is no registry and not empty (it holds {strangers[0]!r}): name an empty or "
            "a new folder"
        )
