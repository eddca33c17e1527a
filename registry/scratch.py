"""Memory that is used again: fresh pages cost more than what is computed in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Scratch:
    """Two arrays as long as the largest need so far; each use overwrites the one before."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)
        self._floats = np.empty(0, np.float32)

    def bytes(self, length: int) -> NDArray[np.uint8]:
        """So many bytes, of any content."""
        if self._bytes.size < length:
            self._bytes = np.empty(length, np.uint8)
        return self._bytes[:length]

    def floats(self, length: int) -> NDArray[np.float32]:
        """So many numbers, of any value."""
        if self._floats.size < length:
            self._floats = np.empty(length, np.float32)
        return self._floats[:length]
