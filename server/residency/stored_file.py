"""An adapter's safetensors file: what its header says, and its data by several threads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

LENGTH_BYTES = 8  # of the header's length, at the beginning
PIECE = 8 * 2**20  # bytes that one thread reads at a time


@dataclass(frozen=True)
class Header:
    """raw: the JSON as it stands, by which equal layouts are known; it names no adapter."""

    raw: bytes

    @cached_property
    def tensors(self) -> Mapping[str, Any]:
        """dtype, shape and data_offsets of each tensor, by name."""
        parsed: dict[str, Any] = json.loads(self.raw)
        return parsed

    @property
    def end(self) -> int:
        """Where in the file the data begins."""
        return LENGTH_BYTES + len(self.raw)


class StoredFile:
    """An open file. ValueError where it ends too soon."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY)
        try:
            self.header = Header(self._read_header())
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> StoredFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def read_data(self, buffer: memoryview, readers: Executor) -> None:
        """Fill `buffer` with the data; one core copies slower than a device takes it."""
        starts = range(0, len(buffer), PIECE)
        pieces = [buffer[start : start + PIECE] for start in starts]
        for _ in readers.map(self._read, pieces, (self.header.end + start for start in starts)):
            pass  # raises what went wrong

    def _read_header(self) -> bytes:
        length = bytearray(LENGTH_BYTES)
        self._read(memoryview(length), 0)
        size = int.from_bytes(length, "little")
        if size > os.fstat(self._file).st_size:
            raise ValueError("the weights file is shorter than its header")
        header = bytearray(size)
        self._read(memoryview(header), LENGTH_BYTES)
        return bytes(header)

    def _read(self, buffer: memoryview, at: int) -> None:
        """Read until the buffer is full; a single read may bring less."""
        read = 0
        while read < len(buffer):
            count = os.preadv(self._file, [buffer[read:]], at + read)
            if not count:
                raise ValueError("the weights file ends before its header says")
            read += count
