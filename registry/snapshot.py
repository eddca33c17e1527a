"""What an adapter's names mean at one moment: all that a server needs to follow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection
from typing_extensions import TypedDict

from .aliases import protected_aliases
from .canary.documents import SplitDocument, read_split, split_document
from .canary.record import Route, Split
from .canary.rows import list_splits
from .documents import VersionDocument, read_version, version_document
from .references import Reference
from .versions import (
    DEFAULT_ALIAS,
    Version,
    alias_targets,
    find_version,
    newest_version,
    no_alias,
)


class SnapshotDocument(TypedDict):
    """An adapter's newest version, what its aliases point at, and how their requests are split."""

    name: str
    newest: VersionDocument
    aliases: dict[str, VersionDocument]
    splits: list[SplitDocument]
    protected: list[str]


@dataclass(frozen=True)
class Snapshot:
    """An adapter's newest version, what its aliases point at, and how their requests are split."""

    newest: Version
    aliases: Mapping[str, Version]
    splits: tuple[Split, ...] = ()
    protected: tuple[str, ...] = ()

    def route(self, reference: Reference) -> Route:
        """Where a bare name or an alias leads; raises `AliasNotFound`."""
        alias = reference.alias or DEFAULT_ALIAS
        if reference.alias is not None and alias not in self.aliases:
            raise no_alias(reference.name, alias, self.aliases)
        split = next((each for each in self.splits if each.alias == alias), None)
        return Route(self.aliases.get(alias, self.newest), split)

    def to_dict(self) -> SnapshotDocument:
        """As JSON."""
        return {
            "name": self.newest.name,
            "newest": version_document(self.newest),
            "aliases": {name: version_document(each) for name, each in self.aliases.items()},
            "splits": [split_document(each) for each in self.splits],
            "protected": list(self.protected),
        }

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Snapshot:
        """From JSON, which a registry of an earlier release may have written."""
        return cls(
            newest=read_version(values["newest"]),
            aliases={name: read_version(each) for name, each in values["aliases"].items()},
            splits=tuple(read_split(each) for each in values.get("splits", ())),
            protected=tuple(values.get("protected", ())),
        )


def take_snapshot(connection: Connection, name: str) -> Snapshot:
    """An adapter as the transaction sees it; raises `AdapterNotFound`."""
    newest = newest_version(connection, name) or find_version(connection, Reference(name))
    return Snapshot(
        newest,
        alias_targets(connection, name),
        tuple(list_splits(connection, name)),
        tuple(sorted(protected_aliases(connection, name))),
    )
