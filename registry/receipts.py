"""The receipt: what an adapter answered when it was trained, to be asked again where it serves."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .errors import InvalidReceipt
from .validation import parse_model, parse_object

RECEIPT_FILE = "receipt.json"


class Probe(BaseModel):
    """One prompt and its greedy continuation, with the highest logits before each new token.

    `top_token_ids` and `top_logits` are [new tokens, k], highest first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    messages: tuple[dict[str, Any], ...]
    prompt_token_ids: tuple[int, ...] = Field(min_length=1)
    token_ids: tuple[int, ...] = Field(min_length=1)
    text: str = ""
    top_token_ids: tuple[tuple[int, ...], ...]
    top_logits: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _fits(self) -> Probe:
        shapes = [[len(row) for row in rows] for rows in (self.top_token_ids, self.top_logits)]
        if shapes[0] != shapes[1] or len(shapes[0]) != len(self.token_ids):
            raise ValueError("each new token needs as many top_token_ids as top_logits")
        return self

    @property
    def margin(self) -> float:
        """By how much the least sure token led the one behind it, in logits."""
        return min(row[0] - row[1] if len(row) > 1 else math.inf for row in self.top_logits)

    def behind(self, position: int, token_id: int) -> float | None:
        """By how much a token's logit lay below the highest; None where it was not recorded."""
        ranked = dict(zip(self.top_token_ids[position], self.top_logits[position], strict=True))
        return None if token_id not in ranked else max(ranked.values()) - ranked[token_id]


class Receipt(BaseModel):
    """What training writes as `receipt.json`; `activations` is the dtype it computed in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    how: str = ""
    activations: str
    probes: tuple[Probe, ...] = Field(min_length=1)

    @classmethod
    def from_bytes(cls, content: bytes) -> Receipt:
        """Read `receipt.json`'s bytes; raises `InvalidReceipt` naming the key."""
        value = parse_object(content, source=RECEIPT_FILE, error=InvalidReceipt)
        return parse_model(cls, value, source=RECEIPT_FILE, error=InvalidReceipt)
