"""The gate before moved aliases: a version takes effect once its receipt has been kept here."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from registry.errors import RegistryError
from registry.versions import Version
from server.errors import AdapterNotServable, ServingError

logger = logging.getLogger(__name__)

T = TypeVar("T")


class ReceiptGate:
    """Keeps each movable name on the version last proven until the one it moved to is proven too.

    `prove` replays a version's receipt and raises what speaks against it. Receipts are replayed one
    at a time, in a thread of the gate's own.
    """

    def __init__(self, prove: Callable[[Version], object]) -> None:
        self._prove = prove
        self._lock = threading.Lock()
        self._outcomes: dict[str, Future[object]] = {}  # by digest, which never changes its answers
        self._effective: dict[str, Version] = {}  # by name as requests write it
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="receipts")

    def pass_through(self, name: str, version: Version) -> Version:
        """What `name` means, given that it points at `version`.

        The version before until the new one is proven; without one before, waits. Raises
        AdapterNotServable when there is neither, and a passing failure of the engine as it is.
        """
        with self._lock:
            former = self._effective.get(name)
            outcome = self._outcomes.get(version.digest)
            if outcome is None:
                outcome = self._outcomes[version.digest] = self._thread.submit(
                    self._replay, version
                )
        if former is not None and not outcome.done():
            return former
        error = outcome.exception()
        if error is None:
            with self._lock:
                self._effective[name] = version
            return version
        if not isinstance(error, RegistryError):
            with self._lock:  # the engine was busy or the disk slow: another try may do
                self._outcomes.pop(version.digest, None)
        if former is not None:
            return former
        raise _refusal(version, error)

    def stop(self) -> None:
        """Begin no further replay."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _replay(self, version: Version) -> object:
        try:
            proof = self._prove(version)
        except (RegistryError, ServingError) as error:
            logger.warning("%s is held back: %s", version.ref, error)
            raise
        logger.info("%s is proven: %s", version.ref, proof)
        return proof


def _refusal(version: Version, error: BaseException) -> BaseException:
    if not isinstance(error, RegistryError):
        return error
    return AdapterNotServable(
        f"{version.ref} is held back until its receipt is kept: {error.message}", param="model"
    )
