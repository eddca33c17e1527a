"""Serving only what somebody trusted has signed."""

from __future__ import annotations

import logging
from collections.abc import Callable

from registry.versions import Version

logger = logging.getLogger(__name__)


class SignatureGuard:
    """Asks of each version once whether it is signed; a refusal is asked about again.

    `check` raises what speaks against a version, `SignatureMissing` for instance.
    """

    def __init__(self, check: Callable[[Version], object]) -> None:
        self._check = check
        self._passed: set[str] = set()  # digests: what was signed stays signed

    def admit(self, version: Version) -> None:
        """Raise what `check` raises, unless the version has passed before."""
        if version.digest in self._passed:
            return
        signature = self._check(version)
        logger.info("%s may be served: %s", version.ref, signature)
        self._passed.add(version.digest)
