"""Brings events to webhooks: in order, each at least once, and no more to those that are dead."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from registry.canonical import canonical_json
from registry.catalog import Catalog
from registry.documents import document
from registry.errors import NotFound
from registry.events import Event, events_after, newest_event, record
from registry.tables import webhook
from registry.versions import now

from .deliveries import log_delivery
from .hook import Webhook, find_hook
from .outcome import Outcome

logger = logging.getLogger(__name__)

MOST_FAILURES = 20  # in a row until a webhook is disabled: with the pauses, about eight hours
DISABLED = "webhook.disabled"
_LONGEST_PAUSE = 3600.0  # seconds
_CLAIM = 120.0  # seconds that one process has a webhook to itself
_BATCH = 8  # deliveries under one claim: together they take less than _CLAIM
_ABREAST = 8  # webhooks served at once

Send = Callable[[Webhook, bytes, Mapping[str, str]], Outcome]
"""Brings a body and its headers to a webhook; `Sender.send`."""


class Courier:
    """Any number of processes may have one: each webhook is served by one of them at a time."""

    def __init__(self, catalog: Catalog, send: Send, *, first_pause: float = 1.0) -> None:
        self._catalog = catalog
        self._send = send
        self._first_pause = first_pause  # seconds after a failure, doubled by each further one
        self._stopping = threading.Event()

    def deliver(self) -> int:
        """Bring what is due; returns how many deliveries arrived."""
        due = self._due()
        if not due:
            return 0
        with ThreadPoolExecutor(min(_ABREAST, len(due)), "webhooks") as pool:
            return sum(pool.map(self._serve, due))

    def stop(self) -> None:
        """Begin no further delivery."""
        self._stopping.set()

    def test(self, hook: Webhook) -> Outcome:
        """Bring an event that did not happen, whatever the webhook wants to hear of."""
        event = Event(0, datetime.now().astimezone(), "webhook.test", "", hook.created_by, {})
        return self._send(hook, _body(event), _headers(event))

    def _due(self) -> list[str]:
        """Webhooks with something to hear of, and nobody who brings it."""
        at = now()
        with self._catalog.read() as connection:
            waiting = sa.select(webhook.c.id).where(
                webhook.c.disabled_at.is_(None),
                webhook.c.next_at <= at,
                webhook.c.claimed_until <= at,
                webhook.c.cursor < newest_event(connection),
            )
            return list(connection.execute(waiting).scalars())

    def _serve(self, hook_id: str) -> int:
        hook = self._claim(hook_id)
        if hook is None:
            return 0
        with self._catalog.read() as connection:
            events = events_after(connection, hook.cursor)
        delivered, cursor = 0, hook.cursor
        for event in events:
            if hook.wants(event):
                outcome = self._send(hook, _body(event), _headers(event))
                self._settle(hook_id, event, outcome)
                if not outcome.is_delivered:
                    break
                delivered += 1
            cursor = event.id
            if delivered == _BATCH or self._stopping.is_set():
                break
        self._change(hook_id, cursor=cursor, claimed_until=now())
        return delivered

    def _claim(self, hook_id: str) -> Webhook | None:
        """The webhook as it is now, ours alone for a while; None where somebody else has it."""
        at = now()
        free = (webhook.c.id == hook_id, webhook.c.claimed_until <= at)
        claim = sa.update(webhook).where(*free, webhook.c.disabled_at.is_(None))
        until = at + timedelta(seconds=_CLAIM)
        with self._catalog.write() as connection:
            if connection.execute(claim.values(claimed_until=until)).rowcount == 0:
                return None
            return find_hook(connection, hook_id)

    def _settle(self, hook_id: str, event: Event, outcome: Outcome) -> None:
        """Write down what came of a delivery, at once: nothing that arrived is brought again."""
        with self._catalog.write() as connection:
            try:
                hook = find_hook(connection, hook_id)
            except NotFound:  # removed meanwhile
                return
            log_delivery(connection, hook, event.id, outcome)
            mine = sa.update(webhook).where(webhook.c.id == hook_id)
            if outcome.is_delivered:
                connection.execute(mine.values(cursor=event.id, failures=0))
                return
            failures = hook.failures + 1
            logger.info("webhook %s, event %d: %s", hook_id, event.id, outcome.error)
            connection.execute(mine.values(failures=failures, next_at=self._next_at(failures)))
            if failures >= MOST_FAILURES:
                connection.execute(mine.values(disabled_at=now()))
                # Not its URL: the feed is read by more than those who may know it.
                data = {"webhook": hook_id, "failures": failures, "error": outcome.error}
                record(connection, DISABLED, "", by="webhooks", **data)

    def _next_at(self, failures: int) -> datetime:
        pause = min(self._first_pause * 2.0 ** (failures - 1), _LONGEST_PAUSE)
        return now() + timedelta(seconds=pause)

    def _change(self, hook_id: str, **values: Any) -> None:
        with self._catalog.write() as connection:
            connection.execute(sa.update(webhook).where(webhook.c.id == hook_id).values(values))


def _body(event: Event) -> bytes:
    return canonical_json(document(event))


def _headers(event: Event) -> dict[str, str]:
    """What a receiver can sort by without reading, and know a repetition by."""
    return {"x-hatstand-event": event.kind, "x-hatstand-delivery": str(event.id)}
