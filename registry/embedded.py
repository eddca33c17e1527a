"""The registry as a folder: a catalog and blobs, used by servers and commands at once."""

from __future__ import annotations

import getpass
import os
from dataclasses import replace
from pathlib import Path

from .aliases import AliasEvent, AliasMove, alias_history, roll_back, set_alias
from .bases import BaseRecord
from .blobs import LocalBlobs
from .bundle import DEFAULT_SIZE_LIMIT
from .candidate import prepare
from .canonical import Progress
from .catalog import Catalog
from .errors import CatalogUnavailable, InvalidReference
from .hats import HAT_FILE, TEMPLATE_FILE, Hat
from .leases import Lease, drop_lease, list_leases, take_lease
from .lint import read_hat
from .lock import LOCK_FILE, Lock
from .pull import copy_out
from .references import Reference, check_alias, check_name
from .summaries import AdapterSummary, list_adapters
from .verification import VersionCheck, verify_version
from .versions import (
    NewVersion,
    Version,
    add_version,
    alias_targets,
    every_version,
    find_version,
    list_versions,
)

_CATALOG_FILE = "catalog.sqlite"
_BLOBS_FOLDER = "blobs"


class Registry:
    """Adapters, versions and aliases in one folder.

    Every method may be called from any thread, and several processes may have the same folder
    open: what one pushes, the others resolve at once. Errors are `RegistryError`s.
    """

    def __init__(self, folder: Path, catalog: Catalog, blobs: LocalBlobs) -> None:
        self.folder = folder
        self._catalog = catalog
        self._blobs = blobs

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Registry:
        """Open the registry in `folder`, making or upgrading it first where needed.

        Raises `CatalogUnavailable` when the folder holds something else or cannot be used.
        """
        path = Path(folder).expanduser().absolute()
        if "://" in os.fspath(folder):
            raise CatalogUnavailable(
                f"{os.fspath(folder)} is a URL: this version opens registries in folders only"
            )
        try:
            _check_is_ours(path)
            path.mkdir(parents=True, exist_ok=True)
            blobs = LocalBlobs(path / _BLOBS_FOLDER)
        except OSError as failure:
            raise CatalogUnavailable(
                f"the registry {path} cannot be opened: {failure.strerror}"
            ) from failure
        return cls(path, Catalog(path / _CATALOG_FILE), blobs)

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
        by = by or _whoami()
        self._blobs.sweep()
        with self._blobs.stage() as staging:
            candidate = prepare(
                Path(folder), staging, base=base, size_limit=size_limit, progress=progress
            )
            new = NewVersion(candidate.manifest, candidate.base_fingerprint, by, allow_new_base)
            with self._catalog.write() as connection:
                version, is_new = add_version(connection, name, new)
                if alias is not None:
                    set_alias(connection, alias, version, AliasMove(by, why or ""))
                # Blobs before the commit: whoever sees the version finds its files.
                staging.publish()
        return replace(version, report=candidate.report, is_new=is_new)

    def resolve(self, reference: str | Reference) -> Version:
        """The version a reference means now: a bare name is alias `prod`, else the newest.

        Raises `AdapterNotFound`, `VersionNotFound` or `AliasNotFound` with near matches,
        `AmbiguousReference`, or `InvalidReference`.
        """
        parsed = _parse(reference)
        with self._catalog.read() as connection:
            return find_version(connection, parsed)

    def files(self, version: Version) -> dict[str, Path]:
        """File name → path of its bytes, the lock included; raises `Corrupted`.

        Bytes are hashed on first use in this process, sizes compared every time. The paths are
        the registry's own: read them, never write.
        """
        return {
            name: self._blobs.verified_path(blob.digest, blob.size)
            for name, blob in version.manifest.files.items()
        }

    def hat(self, version: Version) -> Hat:
        """The hat that travels with a version."""
        names = (HAT_FILE, TEMPLATE_FILE)
        blobs = {name: version.manifest.files.get(name) for name in names}
        return read_hat(
            {
                name: self._blobs.verified_path(blob.digest, blob.size)
                for name, blob in blobs.items()
                if blob is not None
            }
        )

    def lock(self, version: Version) -> Lock:
        """What a version's behaviour depends on."""
        blob = version.manifest.files[LOCK_FILE]
        return Lock.from_bytes(self._blobs.verified_path(blob.digest, blob.size).read_bytes())

    def adapters(self) -> list[AdapterSummary]:
        """Every adapter, by name."""
        with self._catalog.read() as connection:
            return list_adapters(connection)

    def versions(self, name: str) -> list[Version]:
        """All versions of an adapter, oldest first."""
        check_name(name)
        with self._catalog.read() as connection:
            return list_versions(connection, name)

    def aliases(self, name: str) -> dict[str, Version]:
        """Alias → version, of one adapter."""
        check_name(name)
        with self._catalog.read() as connection:
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
        with self._catalog.write() as connection:
            target = find_version(connection, parsed)
            set_alias(connection, alias, target, AliasMove(by or _whoami(), why, expected))
            return target

    def alias_history(self, name: str, alias: str) -> list[AliasEvent]:
        """Every move of an alias, oldest first."""
        check_name(name)
        check_alias(alias)
        with self._catalog.read() as connection:
            return alias_history(connection, name, alias)

    def rollback_alias(
        self,
        name: str,
        alias: str,
        *,
        expected: str | int | None = None,
        by: str | None = None,
        why: str = "",
    ) -> Version:
        """Point an alias where it pointed before, as a new event; returns that version.

        Each further rollback goes one move further back.
        """
        check_name(name)
        check_alias(alias)
        with self._catalog.write() as connection:
            move = AliasMove(by or _whoami(), why, expected)
            return roll_back(connection, name, alias, move)

    def lease(self, digest: str, holder: str, seconds: float) -> Lease:
        """Say that `holder` uses a version for so many seconds; call again to prolong."""
        with self._catalog.write() as connection:
            return take_lease(connection, digest, holder, seconds)

    def release(self, digest: str, holder: str) -> None:
        """Give a lease back early."""
        with self._catalog.write() as connection:
            drop_lease(connection, digest, holder)

    def leases(self) -> list[Lease]:
        """The leases that have not expired."""
        with self._catalog.read() as connection:
            return list_leases(connection)

    def verify(
        self, reference: str | Reference | None = None, *, progress: Progress | None = None
    ) -> list[VersionCheck]:
        """Re-hash and re-lint one version, all versions of a bare name, or everything."""
        with self._catalog.read() as connection:
            if reference is None:
                versions = every_version(connection)
            else:
                parsed = _parse(reference)
                if parsed == Reference(parsed.name):
                    versions = list_versions(connection, parsed.name)
                else:
                    versions = [find_version(connection, parsed)]
        return [verify_version(version, self._blobs, progress=progress) for version in versions]

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
        sources = {
            name: self._blobs.path(blob.digest) for name, blob in version.manifest.files.items()
        }
        copy_out(sources, version.manifest.files, Path(folder), force=force, progress=progress)
        return version


def _parse(reference: str | Reference) -> Reference:
    return reference if isinstance(reference, Reference) else Reference.parse(reference)


def _whoami() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid-{os.getuid()}"


def _check_is_ours(folder: Path) -> None:
    """Refuse to scatter a registry among somebody's files."""
    if not folder.is_dir() or (folder / _CATALOG_FILE).exists():
        return
    strangers = [entry.name for entry in folder.iterdir() if entry.name != _BLOBS_FOLDER]
    if strangers and not (folder / _CATALOG_FILE).exists():
        raise CatalogUnavailable(
            f"{folder} is no registry and not empty (it holds {strangers[0]!r}): name an empty or "
            "a new folder"
        )
