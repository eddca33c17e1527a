"""Open a base that is on disk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from registry.bases import BaseRecord, find_base, read_base
from registry.errors import RegistryError
from server.engine.config import ModelConfig
from server.engine.tokenizer import BaseTokenizer
from server.errors import StartupError


@dataclass(frozen=True)
class Base:
    """A checkpoint folder, who it is, and what shape it has. Weights are not loaded yet."""

    folder: Path
    record: BaseRecord
    config: ModelConfig

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def max_context(self) -> int:
        return self.config.max_context

    @cached_property
    def tokenizer(self) -> BaseTokenizer:
        return BaseTokenizer(self.folder)


def open_base(path_or_id: str) -> Base:
    """The base by that path, name or Hub id; StartupError says how to get it if it is not here."""
    try:
        folder = find_base(path_or_id)
        return Base(folder, read_base(folder), ModelConfig.read(folder))
    except RegistryError as error:
        raise StartupError(str(error)) from error
