"""A registry as a server uses it: answered from what is known here, corrected by events."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.documents import read_version, version_document
from registry.errors import Forbidden, KeyNeeded, NotFound, RegistryError, Unavailable
from registry.events import Event
from registry.references import Reference, parse_reference
from registry.snapshot import Snapshot
from registry.versions import Version

from .connection import Connection
from .following import EventFollower
from .registry import RemoteRegistry

logger = logging.getLogger(__name__)

# A key that is no longer good is no reason to stop serving either.
_DOWN = (Unavailable, KeyNeeded, Forbidden)
_STALE_AFTER = 1.0  # seconds that an answer counts as fresh while no events are heard
_TRY_AGAIN = 2.0  # seconds without asking after the registry did not answer
_FOLLOWED = 15.0  # … to its follower, which asks again sooner than that, and then is connected


@dataclass(frozen=True)
class KnownAdapter:
    """An adapter of which this server has heard."""

    name: str


@dataclass
class _Entry:
    """What was last answered about one adapter, and whether an event has overtaken it."""

    snapshot: Snapshot
    asked_at: float
    is_current: bool


class Mirror(RemoteRegistry):
    """A registry's server, followed: resolving costs no request while events are heard.

    When it is down, what was known stays known, also after a restart; `is_connected` and
    `unreachable_since` say so.
    """

    def __init__(self, connection: Connection, cache: Path | None = None) -> None:
        super().__init__(connection, cache)
        self._known = self._folder / "known"
        self._known.mkdir(parents=True, exist_ok=True)
        self._entries: dict[str, _Entry] = {}
        self._versions: dict[str, Version] = {}  # by reference; these never change
        self._names: list[KnownAdapter] | None = None
        self._generation = 0  # counts events, so that an answer older than one is not kept
        self._lock = threading.Lock()
        self._silent_until = 0.0
        self.unreachable_since: float | None = None  # Unix time
        self.follower = EventFollower(
            connection,
            on_event=self._hear,
            on_connect=self._forget_everything,
            on_failure=self._unheard,
        )

    @classmethod
    def open(cls, url: str) -> Mirror:
        """Mirror the registry at a URL, and follow it from now on; it may be down."""
        mirror = cls(Connection.open(url))
        mirror.follower.start()
        return mirror

    @property
    def is_connected(self) -> bool:
        """Whether the registry answers, as far as is known."""
        return self.follower.is_connected or self.unreachable_since is None

    def resolve(self, reference: str | Reference) -> Version:
        parsed = parse_reference(reference)
        if parsed.number is not None or parsed.digest is not None:
            return self._resolve_fixed(parsed)
        return self.snapshot(parsed.name).route(parsed).stable

    def snapshot(self, name: str) -> Snapshot:
        entry = self._entries.get(name)
        if entry is None or not self._is_fresh(entry):
            entry = self._ask(name, entry)
        return entry.snapshot

    def adapters(self) -> list[Any]:
        """Every adapter; while the registry is down, those that were heard of here."""
        if self._names is not None and self.follower.is_connected:
            return list(self._names)
        generation = self._generation
        try:
            self._check_silence()
            names = [KnownAdapter(each.name) for each in super().adapters()]
        except _DOWN as failure:
            self._lost(failure)
            return [KnownAdapter(path.stem) for path in sorted(self._known.glob("*.json"))]
        self._reached()
        with self._lock:
            self._names = names if generation == self._generation else None
        return list(names)

    def close(self) -> None:
        self.follower.stop()
        super().close()

    def _resolve_fixed(self, reference: Reference) -> Version:
        known = self._versions.get(str(reference)) or self._read_known(reference)
        if known is None:
            self._check_silence()
            try:
                known = super().resolve(reference)
            except _DOWN as failure:
                self._lost(failure)
                raise
            self._reached()
            self._write(f"{known.name}@{known.number}.version", version_document(known))
            self._write(f"{known.name}@{known.digest[7:]}.version", version_document(known))
        if len(self._versions) > 10_000:
            self._versions.clear()
        self._versions[str(reference)] = known
        return known

    def _read_known(self, reference: Reference) -> Version | None:
        """A version that was resolved before this process began."""
        target = reference.number or (reference.digest or "")[7:]
        pattern = f"{reference.name}@{target}" + ("*" if reference.digest else "") + ".version"
        for path in self._known.glob(pattern):
            with contextlib.suppress(OSError, ValueError, KeyError):
                return read_version(json.loads(path.read_text()))
        return None

    def _is_fresh(self, entry: _Entry) -> bool:
        if self.follower.is_connected:
            return entry.is_current
        return time.monotonic() - entry.asked_at < _STALE_AFTER

    def _ask(self, name: str, entry: _Entry | None) -> _Entry:
        """Ask the registry; when it does not answer, what was known must do."""
        generation = self._generation
        try:
            self._check_silence()
            values = self._get(f"/adapters/{name}")
        except NotFound:
            self._forget(name)
            raise
        except _DOWN as failure:
            self._lost(failure)
            known = entry or self._recall(name)
            if known is None:
                raise
            self._entries[name] = known
            return known
        self._reached()
        snapshot = Snapshot.read(values)
        self._write(f"{name}.json", values)
        with self._lock:
            is_current = generation == self._generation
            made = _Entry(snapshot, time.monotonic(), is_current)
            self._entries[name] = made
        for version in (snapshot.newest, *snapshot.aliases.values()):
            self._versions[f"{name}@{version.digest}"] = version
        return made

    def _recall(self, name: str) -> _Entry | None:
        try:
            values = json.loads((self._known / f"{name}.json").read_text())
            snapshot = Snapshot.read(values)
        except (OSError, ValueError, KeyError):
            return None
        return _Entry(snapshot, 0.0, is_current=False)

    def _write(self, file: str, values: object) -> None:
        path = self._known / file
        partial = path.with_name(f".{file}.{os.getpid()}.{threading.get_ident()}")
        partial.write_text(json.dumps(values))
        partial.replace(path)

    def _forget(self, name: str) -> None:
        self._entries.pop(name, None)
        (self._known / f"{name}.json").unlink(missing_ok=True)

    def _hear(self, event: Event) -> None:
        with self._lock:
            self._generation += 1
            entry = self._entries.get(event.adapter)
            if entry is not None:
                entry.is_current = False
            if event.kind.startswith("version."):
                self._names = None

    def _forget_everything(self) -> None:
        """What was asked before the first event could be heard may be out of date."""
        with self._lock:
            self._generation += 1
            self._names = None
            for entry in self._entries.values():
                entry.is_current = False

    def _check_silence(self) -> None:
        """Spare requests the wait for a registry that has just not answered."""
        if time.monotonic() < self._silent_until and not self.follower.is_connected:
            raise Unavailable(f"the registry {self.connection.url} does not answer")

    def _miss(self, failure: Exception) -> None:
        if self.unreachable_since is None and isinstance(failure, _DOWN):
            self.unreachable_since = time.time()
            logger.warning("going on with what is known: %s", failure)

    def _unheard(self, failure: Exception) -> None:
        """Nobody else need wait for an answer: a cable that was pulled refuses no connection."""
        self._miss(failure)
        self._silent_until = time.monotonic() + _FOLLOWED

    def _lost(self, failure: RegistryError) -> None:
        self._miss(failure)
        if time.monotonic() >= self._silent_until:
            self._silent_until = time.monotonic() + _TRY_AGAIN

    def _reached(self) -> None:
        self.unreachable_since = None
