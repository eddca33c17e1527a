"""Which names reach a version: what metrics call the adapters that are held."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from registry.errors import RegistryError
from registry.references import Reference
from registry.versions import DEFAULT_ALIAS, Version
from server.engine.composition import is_composed
from server.engine.request import AdapterRef, ResidentAdapter

from .ports import AdapterRegistry

NAMES_LAST = 1.0  # seconds; scrapes come every 50 ms and may see aliases this much later
REMEMBERED = 4096  # versions


class RequestNames:
    """Every `model` that reaches a version: "sql@3", "sql@prod", "sql".

    A version that was pushed under several names is loaded once, with the label that it was asked
    for by first; the others are known once somebody has asked by them. Safe from any thread.
    """

    def __init__(self, registry: AdapterRegistry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._labels: OrderedDict[str, tuple[str, ...]] = OrderedDict()  # by digest
        self._found: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()  # until when, and it

    def note(self, version: Version) -> None:
        """Somebody asks for a version by one of its labels."""
        with self._lock:
            labels = self._labels.pop(version.digest, ())
            known = version.ref in labels
            self._labels[version.digest] = labels if known else (*labels, version.ref)
            if len(self._labels) > REMEMBERED:
                self._labels.popitem(last=False)

    def of(self, adapter: AdapterRef | ResidentAdapter) -> list[str]:
        """Those of what is held, NAMES_LAST seconds old at most; a composition has none."""
        if is_composed(adapter.digest):
            return []
        now = time.monotonic()
        with self._lock:
            until, names = self._found.get(adapter.digest, (0.0, []))
            labels = dict.fromkeys((adapter.label, *self._labels.get(adapter.digest, ())))
        if now <= until:
            return names
        found = (self._look_up(label, adapter.digest) for label in labels)
        names = list(dict.fromkeys(name for some in found for name in some))
        with self._lock:
            self._found[adapter.digest] = (now + NAMES_LAST, names)
            self._found.move_to_end(adapter.digest)
            if len(self._found) > REMEMBERED:
                self._found.popitem(last=False)
        return names

    def _look_up(self, label: str, digest: str) -> list[str]:
        name = label.partition("@")[0]
        try:
            snapshot = self._registry.snapshot(name)
        except RegistryError:
            return [label]  # removed from the registry, still held here
        default = snapshot.route(Reference(name)).stable
        pointing = [to for to, version in snapshot.aliases.items() if version.digest == digest]
        pointing += [each.alias for each in snapshot.splits if each.target.digest == digest]
        is_default = default.digest == digest or DEFAULT_ALIAS in pointing
        bare = [name] if is_default else []
        return [label, *(f"{name}@{alias}" for alias in pointing), *bare]
