"""What the registry's HTTP layer is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from registry.bundle import DEFAULT_SIZE_LIMIT
from registry.webhooks.addresses import Reach


@dataclass(frozen=True)
class RegistryApiSettings:
    """Limits and habits. Sizes are bytes, times seconds.

    `is_open` lets callers without a key do everything, as long as no key exists: right where only
    this machine can connect.
    """

    is_open: bool = False
    size_limit: int = DEFAULT_SIZE_LIMIT  # of one adapter, and of one blob
    max_body: int = 4 << 20  # of a JSON body
    max_followers: int = 256  # event streams at once
    event_interval: float = 0.25  # between looks for new events
    decide_interval: float = 1.0  # between looks at running canaries
    webhook_interval: float = 0.5  # between looks at webhooks
    webhook_pause: float = 1.0  # after a delivery that failed, doubled by each further one
    webhook_reach: Reach = field(default_factory=Reach.from_environment)
    ping_interval: float = 5.0  # between comments on a silent stream
