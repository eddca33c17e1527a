"""The lock: everything an adapter's behaviour depends on, pinned. A version's config blob."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .bases import BaseRecord
from .canonical import canonical_json
from .errors import InvalidLock
from .validation import parse_model, parse_object

LOCK_FILE = "lock.json"


class GoldenPrompt(BaseModel):
    """One conversation and the token ids it rendered to at training.

    Serving renders it again; other ids mean another template, system prompt or tokenizer. `text`,
    and the special tokens that went into it, let a push find out without a tokenizer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages: tuple[dict[str, Any], ...]
    token_ids: tuple[int, ...]
    text: str | None = None
    bos_token: str | None = None
    eos_token: str | None = None


class Lock(BaseModel):
    """What training writes as `lock.json`.

    Only `base`, `adapter_dtype` ("bfloat16", "float16", "float32"), `rank` and `target_modules`
    are always known; a lock made at push from somebody else's adapter has the rest empty. No
    field may hold a time or a path: equal trainings should lock equally. Digests read
    `sha256:<64 hex>`; `data` maps a file's name to its digest. `imported_from` is the Hub's
    repository and commit (`hf://org/name@commit`) of an adapter that came from there.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        ser_json_inf_nan="constants",  # so that a NaN inside `recipe` is refused, not nulled
    )

    format: Literal[1] = 1
    base: BaseRecord
    adapter_dtype: str
    rank: int = Field(ge=1)
    target_modules: tuple[str, ...]
    template_sha256: str | None = None
    golden: tuple[GoldenPrompt, ...] = ()
    tokenizer_sha256: str | None = None
    recipe: dict[str, Any] = {}
    data: dict[str, str] = {}
    environment: dict[str, str] = {}
    source_commit: str | None = None
    parent: str | None = None
    metrics: dict[str, float] = {}
    imported_from: str | None = None

    @classmethod
    def from_bytes(cls, content: bytes) -> Lock:
        """Read `lock.json`'s bytes; raises `InvalidLock` naming the key."""
        value = parse_object(content, source=LOCK_FILE, error=InvalidLock)
        return parse_model(cls, value, source=LOCK_FILE, error=InvalidLock)

    @classmethod
    def read(cls, folder: Path) -> Lock | None:
        """The lock of an adapter folder, or None where there is none."""
        try:
            content = (folder / LOCK_FILE).read_bytes()
        except FileNotFoundError:
            return None
        return cls.from_bytes(content)

    def write(self, folder: Path) -> None:
        """Write `lock.json`, indented for people; `to_bytes` is what gets hashed."""
        text = json.dumps(json.loads(self.to_bytes()), indent=2, ensure_ascii=False) + "\n"
        (folder / LOCK_FILE).write_bytes(text.encode())

    def to_bytes(self) -> bytes:
        """The canonical JSON that becomes the config blob; raises `InvalidLock` on NaN."""
        try:
            # Without defaults, a field added later does not change what old locks hash to.
            values = self.model_dump(mode="json", exclude_defaults=True)
            return canonical_json({"format": self.format, **values})
        except ValueError as failure:
            raise InvalidLock(f"{LOCK_FILE}: {failure}") from None
