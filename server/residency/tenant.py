"""An adapter in a slot: who uses it, and whether it has to leave."""

from __future__ import annotations

import time
from dataclasses import dataclass

from server.residency.host import HostAdapter

MIN_STAY = 0.25  # seconds in a slot before a newcomer may ask for it to be cleared


@dataclass
class Tenant:
    """An adapter in a slot."""

    adapter: HostAdapter
    slot: int
    since: float  # it was given the slot, or could be used; monotonic seconds
    users: int = 0
    pinned: bool = False
    unloaded: bool = False  # by whoever runs the server
    makes_room: bool = False  # for others that wait for a slot
    entered: bool = False  # has been of use to a sequence

    @property
    def leaving(self) -> bool:
        """Whether it takes no new sequences, and goes when the last one ends."""
        return self.unloaded or self.makes_room

    @property
    def has_stayed(self) -> bool:
        return time.monotonic() - self.since > MIN_STAY

    @property
    def is_idle(self) -> bool:
        """Whether another adapter may take the slot at once.

        One that just came is left to those who wanted it; or adapters that wait together would put
        one another out.
        """
        return self.users == 0 and not self.pinned and (self.entered or self.has_stayed)
