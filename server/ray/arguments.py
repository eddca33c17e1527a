"""What `serve run server.ray:app KEY=VALUE …`, or a Serve configuration's `args`, may say."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from registry.homes import default_registry
from server.errors import StartupError
from server.settings import KEYS_VARIABLE, ApiSettings, EngineOptions, Settings, find_keys

ROOM = 64  # requests beyond the queue, so that it is the server that says when it is full


class Arguments(BaseModel):
    """As the options of `hatstand serve`; sizes in bytes, times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str  # a pulled base's name, or a folder, on every node
    registry: str = Field(default_factory=lambda: str(default_registry()))
    device: Literal["cuda", "cpu"] = "cuda"
    replicas: int = Field(default=1, ge=1)  # unless the configuration scales the deployment
    cpus: float = Field(default=1, ge=0)  # of a replica, for Ray's scheduler
    pins: tuple[str, ...] = ()
    max_slots: int = Field(default=16, ge=1)
    max_rank: int | None = Field(default=None, ge=1)
    max_batch: int | None = Field(default=None, ge=1)
    max_queue: int = Field(default=256, ge=1)
    max_context: int | None = Field(default=None, ge=1)
    kv_memory: int | None = Field(default=None, ge=1)
    host_memory: int | None = Field(default=None, ge=1)
    request_timeout: float = Field(default=600.0, gt=0)
    drain_timeout: float = Field(default=30.0, ge=0)
    insecure: bool = False  # without keys, since what Serve listens on is not known here

    def settings(self) -> Settings:
        """Raises StartupError without keys, unless that was asked for."""
        keys = find_keys(None)
        if not keys and not self.insecure:
            raise StartupError(
                f"Serve may listen where others can reach it: set {KEYS_VARIABLE} where the "
                "application is deployed from, or say insecure=true if something else checks who "
                "calls."
            )
        return Settings(
            base=self.base,
            registry=self.registry if "://" in self.registry else Path(self.registry),
            insecure=self.insecure,
            api=ApiSettings(
                keys=keys,
                pins=self.pins,
                request_timeout=self.request_timeout,
                drain_timeout=self.drain_timeout,
            ),
            engine=EngineOptions(
                device=self.device,
                max_slots=self.max_slots,
                max_rank=self.max_rank,
                max_batch=self.max_batch,
                max_queue=self.max_queue,
                max_context=self.max_context,
                kv_memory=self.kv_memory,
                host_memory=self.host_memory,
            ),
        )

    @property
    def most_at_once(self) -> int:
        """Requests that Serve gives a replica before it looks for another."""
        return (self.max_batch or 128) + self.max_queue + ROOM
