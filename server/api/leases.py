"""Tells the registry which versions this server still needs, so that none is collected."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from registry.errors import RegistryError

from .ports import AdapterRegistry

logger = logging.getLogger(__name__)

TRY_AGAIN = 30.0  # seconds after a lease was not granted


class Leases:
    """Holds a lease on each version in use, renewed only when it no longer covers a request.

    One catalog write per version and `longest_use` seconds, however many requests come.
    """

    def __init__(
        self,
        registry: AdapterRegistry,
        *,
        holder: str,
        longest_use: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._holder = holder
        self._longest_use = longest_use  # seconds that one request may take
        self._clock = clock
        self._renew_at: dict[str, float] = {}  # of those that cover requests, or could not be had
        self._lock = threading.Lock()

    def cover(self, digest: str) -> None:
        """Make sure the version stays for `longest_use` seconds from now. Writes to the catalog."""
        with self._lock:
            now = self._clock()
            if self._renew_at.get(digest, now) > now:
                return
            # What has run out is asked for again, or never.
            self._renew_at = {each: at for each, at in self._renew_at.items() if at > now}
            try:
                self._registry.lease(digest, self._holder, 2 * self._longest_use)
                self._renew_at[digest] = now + self._longest_use
            except RegistryError as error:
                # A catalog that cannot be written now is no reason to refuse an answer.
                logger.warning("no lease on %s: %s", digest, error)
                self._renew_at[digest] = now + TRY_AGAIN
