"""The gate before moved aliases: a version takes effect once its receipt has been kept here."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeGuard

from registry.errors import RegistryError, Unavailable
from registry.versions import Version
from server.errors import AdapterNotServable, ServingError

logger = logging.getLogger(__name__)

REMEMBERED = 4096


class ReceiptGate:
    """Keeps each movable name on the version last proven until the one it moved to is proven too.

    `prove` replays a version's receipt and raises what speaks against it. Receipts are replayed one
    at a time, in a thread of the gate's own.

    most: names, and versions, that are remembered. Those asked for longest ago go first, and are as
    they are to a server that has just started.
    """

    def __init__(self, prove: Callable[[Version], object], *, most: int = REMEMBERED) -> None:
        self._prove = prove
        self._most = most
        self._lock = threading.Lock()
        # By digest, which never changes its answers; the latest asked for last.
        self._outcomes = OrderedDict[str, Future[object]]()
        self._effective = OrderedDict[str, Version]()  # by name as requests write it, likewise
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="receipts")

    def pass_through(self, name: str, version: Version) -> Version:
        """What `name` means, given that it points at `version`.

        The version before until the new one is proven; without one before, waits. Raises
        AdapterNotServable when there is neither, and a passing failure as it is.
        """
        with self._lock:
            former = self._effective.get(name)
            outcome = self._outcome(version)
        if former is not None and not outcome.done():
            return former
        error = outcome.exception()
        if error is None:
            with self._lock:
                self._take_effect(name, version)
            return version
        if not _is_final(error):
            with self._lock:  # the engine or the registry was busy: another try may do
                self._outcomes.pop(version.digest, None)
        if former is not None:
            return former
        raise _refusal(version, error)

    def stop(self) -> None:
        """Begin no further replay."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _outcome(self, version: Version) -> Future[object]:
        """Of its replay, which begins where there has been none."""
        outcome = self._outcomes.get(version.digest)
        if outcome is None:
            outcome = self._outcomes[version.digest] = self._thread.submit(self._replay, version)
        self._outcomes.move_to_end(version.digest)
        while len(self._outcomes) > self._most and next(iter(self._outcomes.values())).done():
            self._outcomes.popitem(last=False)
        return outcome

    def _take_effect(self, name: str, version: Version) -> None:
        self._effective[name] = version
        self._effective.move_to_end(name)
        if len(self._effective) > self._most:
            self._effective.popitem(last=False)

    def _replay(self, version: Version) -> object:
        try:
            proof = self._prove(version)
        except (RegistryError, ServingError) as error:
            logger.warning("%s is held back: %s", version.ref, error)
            raise
        logger.info("%s is proven: %s", version.ref, proof)
        return proof


def _is_final(error: BaseException) -> TypeGuard[RegistryError]:
    return isinstance(error, RegistryError) and not isinstance(error, Unavailable)


def _refusal(version: Version, error: BaseException) -> BaseException:
    if not _is_final(error):
        return error
    return AdapterNotServable(
        f"{version.ref} is held back until its receipt is kept: {error.message}", param="model"
    )
