"""Webhooks and deliveries as JSON: what travels over HTTP."""

from __future__ import annotations

import dataclasses
from typing import Any

from .deliveries import Delivery
from .hook import Webhook


def webhook_document(hook: Webhook) -> dict[str, Any]:
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
        "disabled_at": hook.disabled_at and hook.disabled_at.isoformat(),
    }


def delivery_document(delivery: Delivery) -> dict[str, Any]:
    """One try, and what came of it."""
    return {**dataclasses.asdict(delivery), "at": delivery.at.isoformat()}
