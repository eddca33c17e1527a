"""What a registry's replies say, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Version:
    """One immutable version of an adapter; `size` in bytes."""

    name: str
    number: int
    digest: str
    size: int
    base_fingerprint: str
    created_at: datetime
    created_by: str

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.number}"


@dataclass(frozen=True)
class Adapter:
    """One adapter at a glance; `aliases` maps each to the number that it points at."""

    name: str
    num_versions: int
    newest: Version
    aliases: Mapping[str, int]


@dataclass(frozen=True)
class AdapterPage:
    """Adapters by name. `next` is the `after` of the following page, None on the last."""

    adapters: Sequence[Adapter]
    next: str | None


@dataclass(frozen=True)
class AliasMove:
    """One event of an alias's history; the numbers are None where it did not exist."""

    kind: str
    at: datetime
    by: str
    why: str
    from_number: int | None
    to_number: int | None


def parse_version(values: Mapping[str, Any]) -> Version:
    return Version(
        name=values["name"],
        number=values["version"],
        digest=values["digest"],
        size=values["size"],
        base_fingerprint=values["base_fingerprint"],
        created_at=datetime.fromisoformat(values["created_at"]),
        created_by=values["created_by"],
    )


def parse_versions(body: Mapping[str, Any]) -> list[Version]:
    return [parse_version(values) for values in body["versions"]]


def parse_page(body: Mapping[str, Any]) -> AdapterPage:
    adapters = [
        Adapter(
            name=values["name"],
            num_versions=values["num_versions"],
            newest=parse_version(values["newest"]),
            aliases=values["aliases"],
        )
        for values in body["adapters"]
    ]
    return AdapterPage(adapters, body["next"])


def parse_history(body: Mapping[str, Any]) -> list[AliasMove]:
    return [
        AliasMove(
            kind=event["kind"],
            at=datetime.fromisoformat(event["at"]),
            by=event["by"],
            why=event["why"],
            from_number=event["from_number"],
            to_number=event["to_number"],
        )
        for event in body["events"]
    ]
