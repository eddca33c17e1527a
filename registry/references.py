"""How a request names an adapter version: `sql`, `sql@prod`, `sql@7`, `sql@sha256:…`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import InvalidReference

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")  # no leading zeros, so that text and reference agree
_DIGEST = re.compile(r"sha256:[0-9a-f]{12,64}")
_RULE = "lower-case letters, digits, '.', '_' or '-', starting with a letter or digit, at most 63"


def check_name(name: str) -> str:
    """Return `name` if an adapter may be called that; raise `InvalidReference` otherwise."""
    if not _NAME.fullmatch(name):
        hint = " (an alias is named apart: --alias)" if "@" in name else ""
        raise InvalidReference(
            f"{name[:80]!r} is not an adapter name: use {_RULE} characters{hint}", param="name"
        )
    return name


def check_alias(alias: str) -> str:
    """Return `alias` if an alias may be called that; raise `InvalidReference` otherwise.

    All digits would read as a version number, so they are refused.
    """
    if not _NAME.fullmatch(alias) or alias.isdigit():
        raise InvalidReference(
            f"{alias[:80]!r} is not an alias name: use {_RULE} characters, not digits alone",
            param="alias",
        )
    return alias


@dataclass(frozen=True)
class Reference:
    """An adapter's name and at most one of: an alias, a version number, a digest prefix.

    `digest` keeps its `sha256:` in front, so `version.digest.startswith(reference.digest)` holds
    for what it means. Values that break the rules raise `InvalidReference`.
    """

    name: str
    alias: str | None = None
    number: int | None = None
    digest: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        given = [part for part in (self.alias, self.number, self.digest) if part is not None]
        if len(given) > 1:
            raise InvalidReference("a reference takes one of alias, number and digest, not more")
        if self.alias is not None:
            check_alias(self.alias)
        if self.number is not None and not _NUMBER.fullmatch(str(self.number)):
            raise InvalidReference(f"{self.number} is not a version number", param="version")
        if self.digest is not None and not _DIGEST.fullmatch(self.digest):
            raise InvalidReference(
                f"{self.digest[:80]!r} is not a digest: write sha256: and 12 to 64 hex digits",
                param="version",
            )

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read `name`, `name@alias`, `name@7` or `name@sha256:<12+ hex digits>`."""
        name, at, target = text.partition("@")
        if not at:
            return cls(name)
        if target.startswith("sha256:"):
            return cls(name, digest=target)
        if _NUMBER.fullmatch(target):
            return cls(name, number=int(target))
        if not target:
            raise InvalidReference(
                f"{text[:80]!r} ends in '@': name an alias, a version number or a digest after it",
                param="version",
            )
        return cls(name, alias=target)

    def __str__(self) -> str:
        target = self.alias or self.digest or self.number
        return self.name if target is None else f"{self.name}@{target}"


def parse_reference(reference: str | Reference) -> Reference:
    """A reference, whether it came as text or as one."""
    return reference if isinstance(reference, Reference) else Reference.parse(reference)


def written_under(name: str, target: str) -> str:
    """`target` in full: "7", an alias or a digest is of `name`; a reference stays as it is."""
    return target if "@" in target else f"{name}@{target}"
