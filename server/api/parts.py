"""What one server's HTTP layer is made of."""

from __future__ import annotations

from dataclasses import dataclass

from registry.tracing import Tracing
from registry.tuning import Queue
from server.canary.arms import Arms
from server.canary.tally import Tally
from server.metrics import Metrics
from server.registry_link import RegistryLink
from server.settings import ApiSettings
from server.structure import GrammarCompiler

from .keys import KeyRing
from .models import Models
from .ports import AdapterRegistry, Base, Engine
from .readiness import Readiness
from .responses import ResponseStore
from .token_meter import TokenMeter


@dataclass(frozen=True)
class Parts:
    """What the routes are made of."""

    engine: Engine
    registry: AdapterRegistry
    base: Base
    settings: ApiSettings
    metrics: Metrics
    meter: TokenMeter
    models: Models
    arms: Arms
    tally: Tally
    readiness: Readiness
    keys: KeyRing
    grammars: GrammarCompiler
    link: RegistryLink | None
    queue: Queue | None
    responses: ResponseStore | None
    tracing: Tracing | None
