"""API keys: who may call, and for what.

A key is written `KEY` (inference) or `KEY:SCOPE+SCOPE:TENANT:PATTERN+PATTERN`, of which the end may
be left out and the middle empty, one a line in a file (`#` starts a comment) or comma-separated in
an environment variable. Scopes: `inference` asks the models; `tuning` uploads files and starts
fine-tuning jobs; `admin` may do both, and loads and unloads adapters. The tenant is what logs call
whoever holds the key. Patterns are globs over the names of adapters and of the base; for their key
there are no others. Only a key's sha256 is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from server.errors import StartupError

from .permission import EVERYTHING

Scope = Literal["inference", "tuning", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_TENANT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_PATTERN = re.compile(r"[A-Za-z0-9._/*?-]{1,128}")
SHORTEST_KEY = 8  # characters; anything shorter is guessed in no time


@dataclass(frozen=True)
class ApiKey:
    """One key, known by its hash only."""

    sha256: bytes
    scopes: frozenset[Scope]
    name: str = ""
    patterns: tuple[str, ...] = EVERYTHING

    def __repr__(self) -> str:
        return f"ApiKey(sha256={self.sha256.hex()[:8]}…, scopes={sorted(self.scopes)})"

    @property
    def tenant(self) -> str:
        """Who holds it, in logs: the name it was given, or the beginning of its hash."""
        return self.name or f"key-{self.sha256.hex()[:8]}"

    def allows(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes


class KeyRing:
    """The keys a server accepts. An empty ring lets everyone in.

    parts_prefixes: each key's requests take up prefixes that its own have computed, not others'.
    """

    def __init__(self, keys: Iterable[ApiKey] = (), *, parts_prefixes: bool = False) -> None:
        self._keys = tuple(keys)
        self._parts_prefixes = parts_prefixes

    @property
    def is_open(self) -> bool:
        return not self._keys

    def prefix_scope(self, key: ApiKey) -> str:
        """Who shares cached prefixes: requests that have the same."""
        return key.sha256.hex() if self._parts_prefixes else ""

    def find(self, token: str) -> ApiKey | None:
        """The key that `token` is, compared with every key in constant time."""
        presented = hash_key(token)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, presented):
                found = key
        return found


def hash_key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def read_keys(file: Path) -> tuple[ApiKey, ...]:
    """The keys of a file. Raises StartupError when it cannot be read or holds none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StartupError(f"The API keys file {file} cannot be read: {reason}.") from error
    keys = parse_keys((line.partition("#")[0] for line in lines), where=str(file))
    if not keys:
        raise StartupError(f"The API keys file {file} holds no key: write one a line.")
    return keys


def parse_keys(entries: Iterable[str], *, where: str) -> tuple[ApiKey, ...]:
    """Keys from entries as above; errors name the place, never the key."""
    keys = []
    for number, entry in enumerate(entries, start=1):
        token, scopes, name, patterns = (*entry.strip().split(":", 3), "", "", "")[:4]
        if not entry.strip():
            continue
        if len(token) < SHORTEST_KEY:
            raise StartupError(
                f"{where}, entry {number}: a key needs {SHORTEST_KEY} characters at least."
            )
        place = f"{where}, entry {number}"
        keys.append(
            ApiKey(
                hash_key(token),
                _parse_scopes(scopes, place),
                _check_name(name, place),
                _parse_patterns(patterns, place),
            )
        )
    return tuple(keys)


def _check_name(name: str, where: str) -> str:
    if name and not _TENANT.fullmatch(name):
        raise StartupError(f"{where}: a tenant's name has 1 to 63 of a-z, 0-9, '.', '_' and '-'.")
    return name


def _parse_patterns(text: str, where: str) -> tuple[str, ...]:
    patterns = tuple(text.split("+")) if text else EVERYTHING
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern):
            raise StartupError(
                f"{where}: {pattern[:64]!r} is no pattern of names: those have letters, digits, "
                "'.', '_', '/' and '-', '*' for any of them, and '?' for one."
            )
    return patterns


def _parse_scopes(text: str, where: str) -> frozenset[Scope]:
    names = text.split("+") if text else ["inference"]
    for name in names:
        if name not in SCOPES:
            raise StartupError(f"{where}: unknown scope {name!r}; use {' or '.join(SCOPES)}.")
    return frozenset(scope for scope in SCOPES if scope in names)
