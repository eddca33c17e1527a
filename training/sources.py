"""Where rows come from: a file, or a dataset of the Hugging Face Hub at one commit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, PlainValidator, WithJsonSchema

from .sections import Count, Share

HUB = "hf://"
_HUB_DATASET = re.compile(
    r"hf://(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?(:(?P<split>[\w\[\]%:+-]+))?"
)


@dataclass(frozen=True)
class HubDataset:
    """`hf://org/name[@revision][:split]`; the split is `datasets`' own, such as `train[:10%]`."""

    repository: str
    revision: str | None = None
    split: str = "train"

    @classmethod
    def parse(cls, text: str) -> HubDataset:
        """Raises ValueError on anything but the form above."""
        found = _HUB_DATASET.fullmatch(text)
        if found is None:
            raise ValueError("a dataset of the Hub is written hf://org/name[@revision][:split]")
        return cls(found["repository"], found["revision"], found["split"] or "train")

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{HUB}{self.repository}{revision}:{self.split}"


def _parse(value: Any) -> Path | HubDataset:
    if isinstance(value, Path | HubDataset):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("expected a file, or hf://org/name")
    return HubDataset.parse(value) if value.startswith(HUB) else Path(value)


def as_tuple(value: Any) -> Any:
    """One path is a list of one."""
    if isinstance(value, str | Path | HubDataset):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


Source = Annotated[
    Path | HubDataset,
    PlainValidator(_parse),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string"}),
]
_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT}
Sources = Annotated[
    tuple[Source, ...], BeforeValidator(as_tuple), WithJsonSchema({"anyOf": [_TEXT, _TEXTS]})
]
# Sources, or how many rows to take from others: a number, a share of them, or none.
SourcesOrCount = Annotated[
    tuple[Source, ...] | Count | Share | None,
    BeforeValidator(as_tuple),
    WithJsonSchema(
        {"anyOf": [_TEXT, _TEXTS, {"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]}
    ),
]
