"""One replica's adapters: on disk, in host memory, in slots. As server/residency has it."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass

from .machine import Machine


@dataclass
class Tenant:
    """An adapter in a slot."""

    since: float
    users: int = 0
    entered: bool = False
    makes_room: bool = False


class Shelf:
    """Those entered longest ago leave first; those in use never do."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.tenants: OrderedDict[int, Tenant] = OrderedDict()
        self.wanted: OrderedDict[int, None] = OrderedDict()
        self._arriving: dict[int, float] = {}  # when each is in its slot
        self._loading: dict[int, float] = {}  # when each is in host memory
        self._host: OrderedDict[int, None] = OrderedDict()
        self._threads = [0.0] * machine.loaders  # when each is free
        self.num_activations = self.num_loads = 0
        self.stopped = 0.0  # seconds of writing slots, since they were counted last

    def fill(self, adapters: list[int]) -> None:
        """Begin with these in host memory, the first of them in slots."""
        for adapter in reversed(adapters[: self._machine.host_adapters]):
            self._host[adapter] = None
        for adapter in reversed(adapters[: self._machine.slots]):
            self.tenants[adapter] = Tenant(since=-1.0, entered=True)

    def enter(self, adapter: int, now: float) -> bool:
        """Use an adapter's slot; False, and it is on its way, if it has none."""
        tenant = self.tenants.get(adapter)
        if tenant is None or tenant.makes_room:
            if adapter not in self.wanted:
                self.wanted[adapter] = None
                self._load(adapter, now)
            return False
        tenant.users += 1
        tenant.entered = True
        self.tenants.move_to_end(adapter)
        return True

    def leave(self, adapter: int) -> None:
        self.tenants[adapter].users -= 1

    def expect(self, adapter: int, now: float) -> None:
        """Have it in host memory when somebody can use it."""
        if adapter not in self.tenants and adapter not in self.wanted:
            self._load(adapter, now)

    def settle(self, now: float) -> None:
        """Between two steps: what has come is there, and what waits for a slot gets one."""
        for adapter in [each for each, at in self._loading.items() if at <= now]:
            del self._loading[adapter]
            self._keep(adapter)
        for adapter in [each for each, at in self._arriving.items() if at <= now]:
            del self._arriving[adapter]
            self._arrive(adapter, now)
        for adapter, tenant in list(self.tenants.items()) if self.wanted else ():
            if tenant.makes_room and tenant.users == 0:
                del self.tenants[adapter]
        for adapter in list(self.wanted):
            if adapter in self._arriving or adapter in self.tenants:
                continue
            if adapter not in self._host:
                self._load(adapter, now)
            elif not self._place(adapter, now):
                return
        for tenant in self.tenants.values() if not self.wanted else ():
            tenant.makes_room = False

    def next_change(self) -> float:
        """When something comes that is on its way; infinite if nothing is."""
        return min(*self._loading.values(), *self._arriving.values(), float("inf"), float("inf"))

    def _place(self, adapter: int, now: float) -> bool:
        if len(self.tenants) + len(self._arriving) >= self._machine.slots and not self._evict(now):
            self._make_room(now)
            return False
        self._host.move_to_end(adapter)
        self.num_activations += 1
        if self._machine.speed.swap_stops:
            self.stopped += self._machine.speed.swap
            self._arrive(adapter, now)
        else:
            self._arriving[adapter] = now + self._machine.speed.swap
        return True

    def _arrive(self, adapter: int, now: float) -> None:
        del self.wanted[adapter]
        self.tenants[adapter] = Tenant(since=now)

    def _evict(self, now: float) -> bool:
        for adapter, tenant in self.tenants.items():
            if tenant.users == 0 and (tenant.entered or self._has_stayed(tenant, now)):
                del self.tenants[adapter]
                return True
        return False

    def _make_room(self, now: float) -> None:
        staying = [tenant for tenant in self.tenants.values() if not tenant.makes_room]
        num_leaving = len(self.tenants) - len(staying)
        at_once = min(len(self.wanted), max(1, self._machine.slots // self._machine.leaving))
        for oldest in staying[: max(0, at_once - num_leaving)]:
            oldest.makes_room = self._has_stayed(oldest, now)

    def _has_stayed(self, tenant: Tenant, now: float) -> bool:
        return now - tenant.since > self._machine.min_stay

    def _load(self, adapter: int, now: float) -> None:
        if adapter in self._host or adapter in self._loading:
            return
        begins = max(now, heapq.heappop(self._threads))
        ends = begins + self._machine.speed.load
        heapq.heappush(self._threads, ends)
        self._loading[adapter] = ends
        self.num_loads += 1

    def _keep(self, adapter: int) -> None:
        self._host[adapter] = None
        while len(self._host) > self._machine.host_adapters:
            self._host.popitem(last=False)
