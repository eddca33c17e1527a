"""A base's NF4 weights, kept in the cache once they were quantized: the next start reads them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from registry.canonical import digest_file, digest_of

logger = logging.getLogger(__name__)

SMALLEST = 4 << 20  # bytes of codes; fewer are quantized as fast as they are read
LARGEST = 256 << 20  # of larger bases, `hatstand base pull --nf4` makes a checkpoint
MOST = 1 << 30  # bytes of all copies; beyond that the oldest go


@dataclass
class KeptNf4:
    """One base's copy: a ready NF4 checkpoint's tensors, in a file that is named by its content.

    fingerprint: of the base; another quantizer, or another dtype before it, has another copy.
    """

    folder: Path
    fingerprint: str
    dtype: torch.dtype
    _made: dict[str, torch.Tensor] = field(default_factory=dict)
    _num_bytes: int = 0  # of the codes that were made, be they kept or too many

    @contextmanager
    def found(self) -> Iterator[Path | None]:
        """The copy, if there is a whole one; what is quantized meanwhile becomes the next."""
        yield self._find()
        if SMALLEST <= self._num_bytes <= LARGEST:
            try:
                self._keep()
            except (OSError, SafetensorError) as error:
                logger.info("no copy of the base's NF4 weights is kept: %s", error)

    def note(self, name: str, codes: torch.Tensor, state: Any) -> None:
        """A tensor was quantized."""
        self._num_bytes += codes.nbytes
        if self._num_bytes > LARGEST:
            self._made.clear()
            return
        parts = {f"{name}.{key}": part for key, part in state.as_dict(packed=True).items()}
        # Cloned: tables that tensors share cannot be written twice.
        self._made |= {name: codes, **{key: part.clone() for key, part in parts.items()}}

    @property
    def _key(self) -> str:
        made_by = f"bitsandbytes {importlib.metadata.version('bitsandbytes')}, {self.dtype}"
        return _hex(digest_of(f"{self.fingerprint}, {made_by}".encode()))[:32]

    def _name(self, path: Path) -> str:
        """What a copy with that file's content is called."""
        return f"{self._key}-{_hex(digest_file(path))}.safetensors"

    def _find(self) -> Path | None:
        for path in self.folder.glob(f"{self._key}-*.safetensors"):
            with contextlib.suppress(OSError):
                if path.name == self._name(path):
                    return path
            logger.warning("%s is damaged: the base is quantized again", path)
            path.unlink(missing_ok=True)
        return None

    def _keep(self) -> None:
        """Write the copy whole or not at all, and make room for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f"{self._key}.{os.getpid()}.partial"
        try:
            save_file(self._made, partial)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(self.folder / self._name(partial))
        finally:
            partial.unlink(missing_ok=True)
        left = MOST
        for path in sorted(self.folder.glob("*.safetensors"), key=_written, reverse=True):
            left -= path.stat().st_size
            if left < 0:
                path.unlink()


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _written(path: Path) -> float:
    return path.stat().st_mtime
