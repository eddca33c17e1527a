"""Ports for servers that are told theirs before they start."""

from __future__ import annotations

import errno
import socket
from random import SystemRandom

# Below what systems hand out by themselves: whoever asks for any port meanwhile gets another.
_LOWEST, _HIGHEST = 10_000, 32_000
_chance = SystemRandom()  # Hypothesis gives every process of a run the same `random`


def free_port() -> int:
    """A port of this machine at which nobody listens."""
    while True:
        port = _chance.randrange(_LOWEST, _HIGHEST)
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError as failure:
                if failure.errno != errno.EADDRINUSE:
                    raise
            else:
                return port
