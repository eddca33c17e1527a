"""What can be asked of a registry without changing it."""

from __future__ import annotations

from .alias_history import AliasEvent, alias_history
from .aliases import protected_aliases
from .canary.record import Route, Split
from .canary.rows import find_route, list_splits
from .canonical import Progress
from .catalog import Catalog
from .contents import Contents
from .events import Event, events_after, newest_event
from .known import Known
from .leases import Lease, list_leases
from .pages import LARGEST_PAGE, Page, Search
from .references import Reference, check_alias, check_name, parse_reference
from .snapshot import Snapshot, take_snapshot
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


class Reading(Contents):
    """Looks into a catalog and a store of blobs: the half of `Registry` that changes nothing."""

    catalog: Catalog
    known_routes: Known[Reference, Route]
    known_snapshots: Known[str, Snapshot]

    def resolve(self, reference: str | Reference) -> Version:
        """The version a reference means now: a bare name is alias `prod`, else the newest.

        Raises `AdapterNotFound`, `VersionNotFound` or `AliasNotFound` with near matches,
        `AmbiguousReference`, or `InvalidReference`.
        """
        parsed = parse_reference(reference)
        with self.catalog.read() as connection:
            return find_version(connection, parsed)

    def route(self, reference: str | Reference) -> Route:
        """What `resolve` gives, and how requests are split while a canary runs there.

        Asked for with every request, so the catalog is only read again after a commit to it.
        """
        parsed = parse_reference(reference)
        return self.known_routes.find(parsed, lambda: self._find_route(parsed))

    def _find_route(self, reference: Reference) -> Route:
        with self.catalog.read() as connection:
            return find_route(connection, reference)

    def snapshot(self, name: str) -> Snapshot:
        """An adapter's newest version, aliases and splits, all of one moment.

        Servers ask all day long, so the catalog is only read again after a commit to it.
        """
        return self.known_snapshots.find(check_name(name), lambda: self._take_snapshot(name))

    def _take_snapshot(self, name: str) -> Snapshot:
        with self.catalog.read() as connection:
            return take_snapshot(connection, name)

    def splits(self, name: str) -> list[Split]:
        """How the requests for an adapter's aliases are split now."""
        with self.catalog.read() as connection:
            return list_splits(connection, name)

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

    def alias_history(self, name: str, alias: str) -> list[AliasEvent]:
        """Every move of an alias, oldest first."""
        check_name(name)
        check_alias(alias)
        with self.catalog.read() as connection:
            return alias_history(connection, name, alias)

    def newest(self, name: str) -> Version:
        """The standing version with the highest number, whatever `prod` points at."""
        with self.catalog.read() as connection:
            return newest_version(connection, name) or find_version(connection, Reference(name))

    def protected_aliases(self, name: str) -> set[str]:
        """The aliases of an adapter that are protected."""
        with self.catalog.read() as connection:
            return protected_aliases(connection, name)

    def events(self, after: int = 0, *, limit: int = 1000) -> list[Event]:
        """What happened after the event of that number, oldest first."""
        with self.catalog.read() as connection:
            return events_after(connection, after, limit=limit)

    def newest_event(self) -> int:
        """The last event's number: the cursor that means "from now on"."""
        with self.catalog.read() as connection:
            return newest_event(connection)

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
                parsed = parse_reference(reference)
                if parsed == Reference(parsed.name):
                    versions = list_versions(connection, parsed.name)
                else:
                    versions = [find_version(connection, parsed)]
        return [verify_version(version, self.blobs, progress=progress) for version in versions]
