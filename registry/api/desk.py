"""What every group of routes is made with."""

from __future__ import annotations

from dataclasses import dataclass

from registry.embedded import Registry
from registry.uploads import Uploads

from .access import Gate
from .settings import RegistryApiSettings


@dataclass(frozen=True)
class Desk:
    """The registry, who may use it, and how much."""

    registry: Registry
    gate: Gate
    uploads: Uploads
    settings: RegistryApiSettings
