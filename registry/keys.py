"""Keys of the registry's HTTP API: who may do what to which adapters, until when."""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

import sqlalchemy as sa

from .catalog import Catalog
from .errors import InvalidRequest, KeyNeeded, NotFound
from .tables import api_key
from .versions import now

Verb = Literal["read", "report", "push", "alias", "protect", "delete", "admin"]
VERBS: tuple[Verb, ...] = get_args(Verb)
_PREFIX = "hsk"
_TOKEN = re.compile(r"hsk_[0-9a-f]{16}_[A-Za-z0-9_-]{32,128}")
_MOST_PATTERNS = 32
_LONGEST = 128  # characters of a name or a pattern


@dataclass(frozen=True)
class Key:
    """One key, known by its secret's hash only.

    `patterns` are globs over adapter names. The verb `admin` includes the others, and alone allows
    keys, the audit log and collections.
    """

    id: str
    name: str
    verbs: tuple[str, ...]
    patterns: tuple[str, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None

    def allows(self, verb: Verb, adapter: str | None = None) -> bool:
        """Whether the key is good for `verb` on this adapter, or (None) on any at all."""
        if verb not in self.verbs and "admin" not in self.verbs:
            return False
        return adapter is None or any(fnmatch.fnmatchcase(adapter, each) for each in self.patterns)

    @property
    def is_valid(self) -> bool:
        """Neither revoked nor expired."""
        is_over = self.expires_at is not None and self.expires_at <= datetime.now(UTC)
        return self.revoked_at is None and not is_over


class Keys:
    """The keys of one registry."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def create(
        self,
        name: str,
        verbs: Sequence[str],
        patterns: Sequence[str] = ("*",),
        *,
        expires_at: datetime | None = None,
        by: str = "",
    ) -> tuple[Key, str]:
        """A new key, and the token that is shown this once. Raises `InvalidRequest`."""
        token = f"{_PREFIX}_{secrets.token_hex(8)}_{secrets.token_urlsafe(32)}"
        return self.adopt(token, name, verbs, patterns, expires_at=expires_at, by=by), token

    def adopt(
        self,
        token: str,
        name: str,
        verbs: Sequence[str],
        patterns: Sequence[str] = ("*",),
        *,
        expires_at: datetime | None = None,
        by: str = "",
    ) -> Key:
        """A key whose token was made elsewhere: `hsk_`, 16 hex digits, `_`, 32 characters or more.

        One that is there already stays as it is. Raises `InvalidRequest`.
        """
        _check(name, verbs, patterns)
        if not _TOKEN.fullmatch(token):
            raise InvalidRequest(
                "a token is hsk_, 16 hex digits, _ and at least 32 letters, digits, - or _, as in "
                "hsk_$(openssl rand -hex 8)_$(openssl rand -hex 32)",
                param="token",
            )
        _, key_id, secret = token.split("_", 2)
        row = {
            "id": key_id,
            "name": name,
            "sha256": _hash(secret),
            "verbs": " ".join(verb for verb in VERBS if verb in verbs),
            "patterns": " ".join(patterns),
            "created_at": now(),
            "created_by": by,
            "expires_at": expires_at and expires_at.astimezone(UTC).replace(tzinfo=None),
        }
        with self._catalog.write() as connection:
            there = sa.select(api_key.c.sha256).where(api_key.c.id == key_id)
            sha256 = connection.execute(there).scalar()
            if sha256 is None:
                connection.execute(sa.insert(api_key).values(row))
            elif sha256 != row["sha256"]:
                raise InvalidRequest("another key has these 16 digits already", param="token")
        return self.get(key_id)

    def find(self, token: str) -> Key:
        """The valid key that `token` is; raises `KeyNeeded`."""
        if not _TOKEN.fullmatch(token):
            raise _stranger()
        _, key_id, secret = token.split("_", 2)
        with self._catalog.read() as connection:
            row = connection.execute(sa.select(api_key).where(api_key.c.id == key_id)).first()
        # The secret is compared in constant time, with something even where there is no such key.
        is_same = hmac.compare_digest(row.sha256 if row else _hash(""), _hash(secret))
        if row is None or not is_same:
            raise _stranger()
        key = _key(row)
        if not key.is_valid:
            how = "was revoked" if key.revoked_at else "has expired"
            raise KeyNeeded(f"the key {key.name!r} {how}", param="authorization")
        return key

    def get(self, key_id: str) -> Key:
        """A key by its id; raises `NotFound`."""
        with self._catalog.read() as connection:
            row = connection.execute(sa.select(api_key).where(api_key.c.id == key_id)).first()
        if row is None:
            raise NotFound(f"there is no key {key_id[:32]!r}", param="key")
        return _key(row)

    def list(self) -> list[Key]:
        """Every key, revoked and expired ones too, oldest first."""
        with self._catalog.read() as connection:
            rows = connection.execute(sa.select(api_key).order_by(api_key.c.created_at)).all()
        return [_key(row) for row in rows]

    def revoke(self, key_id: str) -> Key:
        """Make a key worthless from now on; raises `NotFound`."""
        self.get(key_id)
        with self._catalog.write() as connection:
            connection.execute(
                sa.update(api_key)
                .where(api_key.c.id == key_id, api_key.c.revoked_at.is_(None))
                .values(revoked_at=now())
            )
        return self.get(key_id)

    def exist(self) -> bool:
        """Whether there ever was a key: from the first one on, callers must have one."""
        with self._catalog.read() as connection:
            return connection.execute(sa.select(api_key.c.id).limit(1)).first() is not None


def _stranger() -> KeyNeeded:
    return KeyNeeded("the key is not one of this registry's", param="authorization")


def _check(name: str, verbs: Sequence[str], patterns: Sequence[str]) -> None:
    if not 0 < len(name) <= _LONGEST or not name.isprintable():
        raise InvalidRequest("a key needs a name, of at most 128 characters", param="name")
    strange = sorted(set(verbs) - set(VERBS))
    if strange or not verbs:
        raise InvalidRequest(
            f"{', '.join(strange) or 'no verb'}: use some of {', '.join(VERBS)}", param="verbs"
        )
    if not 0 < len(patterns) <= _MOST_PATTERNS:
        raise InvalidRequest(f"a key takes 1 to {_MOST_PATTERNS} patterns", param="patterns")
    for pattern in patterns:
        if not 0 < len(pattern) <= _LONGEST or not pattern.isprintable() or " " in pattern:
            raise InvalidRequest(f"{pattern[:40]!r} is no pattern of names", param="patterns")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _key(row: sa.Row[tuple[object, ...]]) -> Key:
    return Key(
        id=row.id,
        name=row.name,
        verbs=tuple(row.verbs.split()),
        patterns=tuple(row.patterns.split()),
        created_at=row.created_at.replace(tzinfo=UTC),
        created_by=row.created_by,
        expires_at=row.expires_at and row.expires_at.replace(tzinfo=UTC),
        revoked_at=row.revoked_at and row.revoked_at.replace(tzinfo=UTC),
    )
