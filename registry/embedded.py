"""The registry itself: a catalog and blobs, used by servers and commands at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .aliases import AliasMove, protect_alias, roll_back, set_alias
from .bases import BaseRecord
from .blobs import Blobs, open_blobs
from .bundle import DEFAULT_SIZE_LIMIT
from .canary.canaries import Canaries
from .candidate import Candidate, prepare
from .canonical import Progress
from .catalog import Catalog
from .commit import NewVersion, add_version, check_base, withdraw_version
from .errors import BlobsMissing, CatalogUnavailable, InvalidReference
from .homes import adapter_cache
from .identity import whoami
from .known import Known
from .leases import Lease, drop_lease, take_lease
from .manifest import Manifest
from .reading import Reading
from .references import Reference, check_alias, check_name, parse_reference
from .staging import StagingArea
from .versions import (
    Version,
    find_version,
)

CATALOG_FILE = "catalog.sqlite"
BACKUP_MARK = "backup"  # an empty file in a folder that `registry backup` writes to
_BLOBS_FOLDER = "blobs"
_WORK_FOLDER = "staging"
_OURS = (_BLOBS_FOLDER, "uploads", BACKUP_MARK)
_ATTEMPTS = 3  # of a push whose blobs are collected under it


class Registry(Reading):
    """Adapters, versions and aliases in a catalog, and their bytes in a store of blobs.

    Every method may be called from any thread, and several processes may have the same registry
    open: what one pushes, the others resolve at once. Errors are `RegistryError`s.
    """

    def __init__(self, folder: Path, catalog: Catalog, blobs: Blobs) -> None:
        self.folder = folder
        self.catalog = catalog
        self.blobs = blobs
        self.staging = StagingArea(_staging_folder(folder))
        self.canaries = Canaries(catalog)
        self.known_routes = Known(catalog.stamp)
        self.known_snapshots = Known(catalog.stamp)

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
            return cls(path, Catalog(database or path / CATALOG_FILE), store)
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
        parsed = parse_reference(reference)
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

    def protect_alias(
        self, name: str, alias: str, *, is_protected: bool = True, by: str | None = None
    ) -> None:
        """Let only keys with the verb `protect` move an alias over HTTP, or any again."""
        check_alias(alias)
        with self.catalog.write() as connection:
            protect_alias(connection, name, alias, is_protected=is_protected, by=by or whoami())

    def withdraw(
        self, reference: str | Reference, *, by: str | None = None, why: str = ""
    ) -> Version:
        """Let nobody find a version any more; collections may then remove its bytes.

        Raises `VersionInUse` while an alias points at it. Its number stays taken; pushing the
        same bytes again brings it back.
        """
        with self.catalog.write() as connection:
            version = find_version(connection, parse_reference(reference))
            withdraw_version(connection, version, by=by or whoami(), why=why)
            return version

    def lease(self, digest: str, holder: str, seconds: float) -> Lease:
        """Say that `holder` uses a version for so many seconds; call again to prolong."""
        with self.catalog.write() as connection:
            return take_lease(connection, digest, holder, seconds)

    def release(self, digest: str, holder: str) -> None:
        """Give a lease back early."""
        with self.catalog.write() as connection:
            drop_lease(connection, digest, holder)


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


def _staging_folder(folder: Path) -> Path:
    """On the same disk as the blobs where they are local, so that a rename moves them in."""
    return folder / _BLOBS_FOLDER / _WORK_FOLDER


def _check_is_ours(folder: Path) -> None:
    """Refuse to scatter a registry among somebody's files."""
    if not folder.is_dir() or (folder / CATALOG_FILE).exists():
        return
    # Where the catalog is in PostgreSQL, its file is not there to tell.
    strangers = [entry.name for entry in folder.iterdir() if entry.name not in _OURS]
    if strangers:
        raise CatalogUnavailable(
            f"{folder} is no registry and not empty (it holds {strangers[0]!r}): name an empty or "
            "a new folder"
        )
