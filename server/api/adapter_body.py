"""The bodies of POST /v1/load_lora_adapter and /v1/unload_lora_adapter, in vLLM's words."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from . import limits

Name = Annotated[str, Field(min_length=1, max_length=limits.MAX_NAME)]


class LoadBody(BaseModel):
    """`lora_path` is a registry reference, never a path on disk; absent, it is `lora_name`.

    `load_inplace` is accepted: a name always means its newest target here, with or without it.
    `pin` is ours: a pinned adapter is never evicted.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    lora_name: Name
    lora_path: Name | None = None
    load_inplace: bool | None = None
    pin: bool | None = None


class UnloadBody(BaseModel):
    """A bare name unloads every loaded version of it, a full reference only that version."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    lora_name: Name
    lora_int_id: int | None = None  # vLLM's inner number; clients send it back, nothing reads it
