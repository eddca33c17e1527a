"""The registry that a server reads from: a folder beside it, or a server that it follows."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp

from registry import Registry
from registry.opening import AnyRegistry, is_remote, open_local
from registry.remote.mirror import Mirror

logger = logging.getLogger(__name__)

_FIRST_ANSWER = 5.0  # seconds to wait for a registry at start, before going on without it


@dataclass(frozen=True)
class RegistryLink:
    """One registry, and what to say about it."""

    registry: AnyRegistry

    @classmethod
    def open(cls, location: str | Path) -> RegistryLink:
        """Open a folder, or follow the registry at a URL. Raises RegistryError."""
        if not is_remote(location):
            is_new = not Path(location).expanduser().exists()
            link = cls(open_local(location))
            if is_new:  # a mistyped folder looks the same
                logger.warning("there was no registry at %s: an empty one begins there", location)
            return link
        mirror = Mirror.open(os.fspath(location))
        mirror.follower.wait(_FIRST_ANSWER)
        return cls(mirror)

    @property
    def is_connected(self) -> bool:
        """False while a registry elsewhere does not answer."""
        return not isinstance(self.registry, Mirror) or self.registry.is_connected

    def warnings(self) -> list[str]:
        """What an operator should know, though the server can go on serving."""
        if self.is_connected or not isinstance(self.registry, Mirror):
            return []
        since = self.registry.unreachable_since
        known = "" if since is None else f" for {time.time() - since:.0f} s"
        url = self.registry.connection.url
        return [f"the registry {url} has not answered{known}: serving what is known here"]

    def app(self, *, is_open: bool) -> ASGIApp | None:
        """The registry's own HTTP API, for one that lies beside the server."""
        if not isinstance(self.registry, Registry):
            return None
        from registry.api.app import create_app
        from registry.api.settings import RegistryApiSettings

        return create_app(self.registry, RegistryApiSettings(is_open=is_open))

    @contextlib.asynccontextmanager
    async def cared_for(self) -> AsyncIterator[None]:
        """Do what a registry that lies beside the server needs done, while the context lasts."""
        if not isinstance(self.registry, Registry):
            yield
            return
        from registry.api.caretaker import Caretaker
        from registry.api.settings import RegistryApiSettings

        async with Caretaker(self.registry, RegistryApiSettings()).at_work():
            yield

    def close(self) -> None:
        """Stop following."""
        self.registry.close()
