"""Webhooks: who is told of which events."""

from __future__ import annotations

import fnmatch
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.catalog import Catalog
from registry.errors import InvalidRequest, NotFound
from registry.events import Event, newest_event
from registry.tables import webhook, webhook_delivery
from registry.versions import now

from .addresses import Reach

_MOST = 100  # webhooks of one registry
_MOST_PATTERNS = 32
_LONGEST_PATTERN = 128
_LONGEST_URL = 2000


@dataclass(frozen=True)
class Webhook:
    """Events whose kind and adapter fit (globs) go to `url`; those up to `cursor` are done with.

    `failures` counts deliveries that failed since the last that did not.
    """

    id: str
    url: str
    kinds: tuple[str, ...]
    patterns: tuple[str, ...]
    cursor: int
    failures: int
    next_at: datetime
    created_at: datetime
    created_by: str
    disabled_at: datetime | None
    secret: str = field(repr=False)

    def wants(self, event: Event) -> bool:
        """Whether an event is told to it."""
        return _fits(event.kind, self.kinds) and _fits(event.adapter, self.patterns)


class Webhooks:
    """The webhooks of one registry."""

    def __init__(self, catalog: Catalog, reach: Reach) -> None:
        self._catalog = catalog
        self._reach = reach

    def add(
        self,
        url: str,
        kinds: Sequence[str] = ("*",),
        patterns: Sequence[str] = ("*",),
        *,
        by: str = "",
    ) -> Webhook:
        """Tell `url` of what happens from now on; its secret is in no later answer."""
        _check_url(url, self._reach)
        _check_globs(kinds, "kinds")
        _check_globs(patterns, "patterns")
        hook_id = secrets.token_hex(8)
        row = {
            "id": hook_id,
            "url": url,
            "secret": f"whs_{secrets.token_urlsafe(32)}",
            "kinds": " ".join(kinds),
            "patterns": " ".join(patterns),
            "failures": 0,
            "next_at": now(),
            "claimed_until": now(),
            "created_at": now(),
            "created_by": by,
        }
        with self._catalog.write() as connection:
            if connection.execute(sa.select(sa.func.count(webhook.c.id))).scalar_one() >= _MOST:
                raise InvalidRequest(f"{_MOST} webhooks are all that there may be", param="url")
            connection.execute(sa.insert(webhook).values(cursor=newest_event(connection), **row))
            return find_hook(connection, hook_id)

    def get(self, hook_id: str) -> Webhook:
        """A webhook by its id; raises `NotFound`."""
        with self._catalog.read() as connection:
            return find_hook(connection, hook_id)

    def list(self) -> list[Webhook]:
        """Every webhook, oldest first."""
        with self._catalog.read() as connection:
            rows = connection.execute(sa.select(webhook).order_by(webhook.c.created_at)).all()
        return [read_hook(row) for row in rows]

    def remove(self, hook_id: str) -> None:
        """Tell it nothing any more; raises `NotFound`."""
        with self._catalog.write() as connection:
            find_hook(connection, hook_id)
            mine = webhook_delivery.c.webhook_id == hook_id
            connection.execute(sa.delete(webhook_delivery).where(mine))
            connection.execute(sa.delete(webhook).where(webhook.c.id == hook_id))

    def enable(self, hook_id: str) -> Webhook:
        """Try again, from the event on that did not arrive; raises `NotFound`."""
        with self._catalog.write() as connection:
            find_hook(connection, hook_id)
            values = {"disabled_at": None, "failures": 0, "next_at": now()}
            connection.execute(sa.update(webhook).where(webhook.c.id == hook_id).values(values))
            return find_hook(connection, hook_id)


def find_hook(connection: Connection, hook_id: str) -> Webhook:
    """A webhook by its id; raises `NotFound`."""
    row = connection.execute(sa.select(webhook).where(webhook.c.id == hook_id)).first()
    if row is None:
        raise NotFound(f"there is no webhook {hook_id[:32]!r}", param="webhook")
    return read_hook(row)


def read_hook(row: Any) -> Webhook:
    """A webhook from its row."""
    return Webhook(
        id=row.id,
        url=row.url,
        kinds=tuple(row.kinds.split()),
        patterns=tuple(row.patterns.split()),
        cursor=row.cursor,
        failures=row.failures,
        next_at=row.next_at.replace(tzinfo=UTC),
        created_at=row.created_at.replace(tzinfo=UTC),
        created_by=row.created_by,
        disabled_at=row.disabled_at and row.disabled_at.replace(tzinfo=UTC),
        secret=row.secret,
    )


def _fits(text: str, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(text, glob) for glob in globs)


def _check_url(url: str, reach: Reach) -> None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    is_plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= _LONGEST_URL
    if parts.scheme not in ("http", "https") or not host or parts.username or not is_plain:
        raise InvalidRequest("a webhook needs an https:// or http:// URL", param="url")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return  # a name: looked at when it is connected to
    if not reach.allows(address):
        where = host if port is None else f"{host}:{port}"
        raise InvalidRequest(
            f"{where} is not a public address, nor in a network that HATSTAND_WEBHOOK_NETWORKS or "
            "`registry serve --webhook-networks` allows",
            param="url",
        )


def _check_globs(globs: Sequence[str], key: str) -> None:
    is_short = 0 < len(globs) <= _MOST_PATTERNS
    if not is_short or not all(_is_glob(glob) for glob in globs):
        raise InvalidRequest(f"{key}: 1 to {_MOST_PATTERNS} patterns without spaces", param=key)


def _is_glob(glob: str) -> bool:
    return 0 < len(glob) <= _LONGEST_PATTERN and glob.isprintable() and " " not in glob
