"""Webhooks and deliveries as JSON: what travels over HTTP."""

from __future__ import annotations

import dataclasses
from typing import Any

from typing_extensions import TypedDict

from .deliveries import Delivery
from .hook import Webhook


class WebhookDocument(TypedDict):
    """Whom to tell of what; `failures` in a row."""

    id: str
    url: str
    kinds: list[str]
    patterns: list[str]
    cursor: int
    failures: int
    next_at: str
    created_at: str
    created_by: str
    disabled_at: str | None


def webhook_document(hook: Webhook) -> WebhookDocument:
    """A webhook without its secret."""
    return {
        "id": hook.id,
        "url": hook.url,
        "kinds": list(hook.kinds),
        "patterns": list(hook.patterns),
        "cursor": hook.cursor,
        "failures": hook.failures,
        "next_at": hook.next_at.isoformat(),
        "created_at": hook.created_at.isoformat(),
        "created_by": hook.created_by,
        "disabled_at": None if hook.disabled_at is None else hook.disabled_at.isoformat(),
    }


def delivery_document(delivery: Delivery) -> dict[str, Any]:
    """One try, and what came of it."""
    return {**dataclasses.asdict(delivery), "at": delivery.at.isoformat()}
