"""Which adapters are in slots, who comes next, and who has to leave."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol

from server.engine.device_errors import device_survives
from server.engine.load_times import LoadTimes
from server.engine.request import AdapterMove, AdapterRef, ResidentAdapter
from server.errors import AdapterLoadError
from server.residency.host import HostAdapter
from server.residency.moves import Moves
from server.residency.newcomers import Newcomers
from server.residency.source import HostSource
from server.residency.tenant import Tenant

logger = logging.getLogger(__name__)

LEAVING = 2  # of so many slots one may be cleared at a time for adapters that wait


class Slots(Protocol):
    """Where adapters lie while they can be used."""

    @property
    def num_slots(self) -> int: ...

    def write(self, slot: int, adapter: Any) -> None:
        """Begin to put an adapter, as the source packs it for these slots, into a free slot."""
        ...

    def has_arrived(self, slot: int) -> bool:
        """Whether what was written last may be used."""
        ...


class Residency:
    """Loads adapters beside decoding and gives each a slot when it is wanted.

    Reading and packing happen on the loader's threads; everything else is called by the engine's
    thread, between two steps. An adapter with running sequences is never evicted, a pinned one
    never at all. When every slot is busy, the longest unused one is closed to newcomers until it
    is empty, so that a stream of requests for resident adapters cannot keep others out for ever.
    """

    def __init__(self, source: HostSource, slots: Slots, *, host_memory: int) -> None:
        self._slots = slots
        self._moves = Moves()
        self._newcomers = Newcomers(source, self._moves, host_memory=host_memory)
        self._tenants: OrderedDict[str, Tenant] = OrderedDict()  # least recently entered first
        self._arriving: dict[str, Tenant] = {}  # their slots are being filled
        self._free = list(range(slots.num_slots))
        self._pins: set[str] = set()
        self.num_evictions = 0
        self.activate_times = LoadTimes()

    def enter(self, adapter: AdapterRef) -> int | None:
        self._newcomers.met(adapter.digest)
        tenant = self._tenants.get(adapter.digest)
        if tenant is None or tenant.leaving:
            self._newcomers.want(adapter)
            return None
        tenant.users += 1
        tenant.entered = True
        self._tenants.move_to_end(adapter.digest)
        return tenant.slot

    def leave(self, digest: str) -> None:
        tenant = self._tenants[digest]
        tenant.users -= 1
        assert tenant.users >= 0

    def want(self, adapter: AdapterRef) -> None:
        """Bring an adapter into a slot, whether or not a sequence waits for it."""
        self._newcomers.want(adapter, asked=True)

    def expect(self, adapter: AdapterRef) -> None:
        """Have an adapter in host memory soon; for a slot it is too early."""
        if adapter.digest not in self._tenants:
            self._newcomers.expect(adapter)

    def unwant(self, digest: str) -> None:
        """Do not bring an adapter that only sequences wanted: they have gone."""
        if not self._newcomers.is_asked_for(digest):
            self._newcomers.give_up(digest)

    def pin(self, adapter: AdapterRef) -> None:
        """Bring an adapter into a slot and keep it there."""
        self._pins.add(adapter.digest)
        tenant = self._tenants.get(adapter.digest)
        if tenant is not None:
            tenant.pinned = True
            self._take_back(tenant)
        else:
            self.want(adapter)

    def unload(self, digest: str) -> bool:
        """Free slot and host copy as soon as no sequence uses them; False if there is nothing."""
        self._pins.discard(digest)
        wanted = self._newcomers.give_up(digest)
        held = self._newcomers.host.drop(digest)
        tenant = self._tenants.get(digest)
        if tenant is not None:
            tenant.pinned, tenant.unloaded = False, True
            self._clear_left()
        return wanted or held or tenant is not None

    def is_resident(self, digest: str) -> bool:
        tenant = self._tenants.get(digest)
        return tenant is not None and not tenant.leaving

    def is_wanted(self, digest: str) -> bool:
        return digest in self._newcomers

    def is_gone(self, digest: str) -> bool:
        """Whether it has left, be it that newcomers brought it back since."""
        tenant = self._tenants.get(digest)
        return tenant is None or not tenant.leaving

    def settle(self) -> None:
        self._newcomers.collect()
        self._pins.difference_update(self._newcomers.failures)
        self._admit_arrived()
        self._clear_left()
        for wanted in tuple(self._newcomers):
            adapter = self._newcomers.host.get(wanted.digest)
            if adapter is None:
                self._newcomers.read_again(wanted)
            elif not self._place(adapter):
                return
        self._reopen()

    @property
    def failures(self) -> Mapping[str, AdapterLoadError]:
        return self._newcomers.failures

    @property
    def num_loads(self) -> int:
        return self._newcomers.num_loads

    @property
    def load_times(self) -> LoadTimes:
        return self._newcomers.load_times

    @property
    def is_moving(self) -> bool:
        return bool(self._arriving) or self._newcomers.is_moving

    def residents(self) -> tuple[ResidentAdapter, ...]:
        in_slots = [
            ResidentAdapter(digest, t.adapter.label, "slot", t.adapter.rank, t.pinned, t.users)
            for digest, t in self._tenants.items()
        ]
        in_host = [
            ResidentAdapter(a.digest, a.label, "host", a.rank, False, 0)
            for a in self._newcomers.host
            if a.digest not in self._tenants
        ]
        return (*in_slots, *in_host)

    def loading(self) -> tuple[AdapterRef, ...]:
        return tuple(self._newcomers)

    @property
    def recent_moves(self) -> tuple[AdapterMove, ...]:
        return self._moves.newest

    def stop(self) -> None:
        self._newcomers.stop()

    def _fail(self, digest: str, error: AdapterLoadError) -> None:
        self._newcomers.fail(digest, error)
        self._pins.discard(digest)

    def _place(self, adapter: HostAdapter) -> bool:
        """Have a free or an idle slot filled; else have one cleared and say False."""
        if adapter.digest in self._arriving:
            return True
        if adapter.digest in self._tenants:  # it is leaving, and comes back when it has left
            return True
        slot = self._free_slot()
        if slot is None:
            self._make_room(adapter)
            return False
        if self._fill(slot, adapter):
            self._arriving[adapter.digest] = Tenant(adapter, slot, since=time.monotonic())
            self._admit_arrived()
        return True

    def _fill(self, slot: int, adapter: HostAdapter) -> bool:
        """Begin to write a slot; False, and nobody waits any longer, if the device cannot."""
        try:
            self._slots.write(slot, adapter)
        except RuntimeError as error:
            if not device_survives(error):
                raise
            logger.error("adapter %s could not be put into a slot: %s", adapter.label, error)
            self._release(slot)
            self._fail(
                adapter.digest,
                AdapterLoadError(
                    f"adapter {adapter.label} could not be put into a slot: the device has "
                    "no memory left to unpack it; try again, or start the server with less "
                    "--kv-memory",
                    retry_after=1.0,
                ),
            )
            return False
        return True

    def _admit_arrived(self) -> None:
        """Let sequences use the slots that are filled by now, if anybody still wants that."""
        for digest, tenant in list(self._arriving.items()):
            if not self._slots.has_arrived(tenant.slot):
                continue
            del self._arriving[digest]
            if digest in self._newcomers:
                now = time.monotonic()
                self.activate_times = self.activate_times.plus(now - tenant.since)
                tenant.pinned, tenant.since = digest in self._pins, now
                self._tenants[digest] = tenant
                self._moves.note(tenant.adapter.label, "slot")
                self._newcomers.give_up(digest)
            else:
                self._release(tenant.slot)

    def _free_slot(self) -> int | None:
        if self._free:
            return self._free.pop(0)
        for digest, tenant in self._tenants.items():
            if tenant.is_idle:
                self._evict(digest)
                return self._free.pop()
        return None

    def _make_room(self, adapter: HostAdapter) -> None:
        movable = [tenant for tenant in self._tenants.values() if not tenant.pinned]
        if not movable and not self._arriving:
            error = AdapterLoadError(
                f"adapter {adapter.label} finds no slot: all {self._slots.num_slots} are pinned; "
                "unload one, or start the server with more --max-slots"
            )
            self._fail(adapter.digest, error)
        staying = [tenant for tenant in movable if not tenant.leaving]
        at_once = min(len(self._newcomers), max(1, self._slots.num_slots // LEAVING))
        for oldest in staying[: max(0, at_once - (len(movable) - len(staying)))]:
            oldest.makes_room = oldest.has_stayed

    def _reopen(self) -> None:
        """Nobody waits for a slot any longer, so nobody has to leave for them."""
        for tenant in self._tenants.values():
            if tenant.makes_room and not tenant.unloaded:
                self._take_back(tenant)

    def _take_back(self, tenant: Tenant) -> None:
        """Let an adapter that was about to leave stay where it is."""
        tenant.unloaded = tenant.makes_room = False
        self._newcomers.give_up(tenant.adapter.digest)

    def _clear_left(self) -> None:
        for digest, tenant in list(self._tenants.items()):
            if tenant.leaving and tenant.users == 0:
                self._evict(digest)

    def _evict(self, digest: str) -> None:
        tenant = self._tenants.pop(digest)
        self._release(tenant.slot)
        self.num_evictions += 1
        self._moves.note(tenant.adapter.label, "out")

    def _release(self, slot: int) -> None:
        self._free.append(slot)
        self._free.sort()
