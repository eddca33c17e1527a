"""One registry's webhooks, in a folder or behind a URL, as commands use them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from registry.embedded import Registry
from registry.identity import whoami
from registry.opening import AnyRegistry
from registry.remote.connection import Connection

from .addresses import Reach
from .courier import Courier
from .deliveries import read_deliveries
from .documents import delivery_document, webhook_document
from .hook import Webhooks
from .sender import Sender

Document = Mapping[str, Any]


class WebhookDesk(Protocol):
    """What can be done with webhooks; everything is as the HTTP API writes it."""

    def add(self, url: str, kinds: Sequence[str], patterns: Sequence[str]) -> Document: ...

    def remove(self, hook_id: str) -> None: ...

    def enable(self, hook_id: str) -> Document: ...

    def test(self, hook_id: str) -> Document: ...

    def deliveries(self, hook_id: str) -> list[Document]: ...

    def list(self) -> list[Document]: ...


def open_desk(registry: AnyRegistry) -> WebhookDesk:
    """The webhooks of a registry."""
    if isinstance(registry, Registry):
        return LocalDesk(registry, Reach.from_environment())
    return RemoteDesk(registry.connection)


class LocalDesk:
    """Webhooks of a registry in a folder. Its server, where there is one, brings the events."""

    def __init__(self, registry: Registry, reach: Reach) -> None:
        self._catalog = registry.catalog
        self._webhooks = Webhooks(registry.catalog, reach)
        self._courier = Courier(registry.catalog, Sender(reach).send)

    def add(self, url: str, kinds: Sequence[str], patterns: Sequence[str]) -> Document:
        made = self._webhooks.add(url, kinds, patterns, by=whoami())
        return {**webhook_document(made), "secret": made.secret}

    def remove(self, hook_id: str) -> None:
        self._webhooks.remove(hook_id)

    def enable(self, hook_id: str) -> Document:
        return webhook_document(self._webhooks.enable(hook_id))

    def test(self, hook_id: str) -> Document:
        outcome = self._courier.test(self._webhooks.get(hook_id))
        return {**dataclasses.asdict(outcome), "is_delivered": outcome.is_delivered}

    def deliveries(self, hook_id: str) -> list[Document]:
        return [delivery_document(each) for each in read_deliveries(self._catalog, hook_id)]

    def list(self) -> list[Document]:
        return [webhook_document(each) for each in self._webhooks.list()]


class RemoteDesk:
    """Webhooks of a registry's server; the key needs the verb `admin`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, url: str, kinds: Sequence[str], patterns: Sequence[str]) -> Document:
        body = {"url": url, "kinds": list(kinds), "patterns": list(patterns)}
        return self._document("POST", "/webhooks", json=body)

    def remove(self, hook_id: str) -> None:
        self._connection.call("DELETE", f"/webhooks/{hook_id}", attempts=1)

    def enable(self, hook_id: str) -> Document:
        return self._document("POST", f"/webhooks/{hook_id}/enable")

    def test(self, hook_id: str) -> Document:
        return self._document("POST", f"/webhooks/{hook_id}/test")

    def deliveries(self, hook_id: str) -> list[Document]:
        found: list[Document] = self._document("GET", f"/webhooks/{hook_id}/deliveries")[
            "deliveries"
        ]
        return found

    def list(self) -> list[Document]:
        found: list[Document] = self._document("GET", "/webhooks")["webhooks"]
        return found

    def _document(self, method: str, path: str, *, json: object = None) -> Document:
        answer: Document = self._connection.call(method, path, json=json).json()
        return answer
