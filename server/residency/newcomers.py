"""Adapters that somebody waits for, and their way into host memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from server.engine.load_times import LoadTimes
from server.engine.request import AdapterRef
from server.errors import AdapterLoadError
from server.residency.host import HostCache
from server.residency.loader import Loader
from server.residency.moves import Moves
from server.residency.source import HostSource


class Newcomers:
    """Those that are wanted in a slot, oldest first, and those that are expected to be wanted.

    Their files are read on the loader's threads; everything else is called by the engine's.
    """

    def __init__(self, source: HostSource, moves: Moves, *, host_memory: int) -> None:
        self._loader = Loader(source)
        self._moves = moves
        self._wanted: OrderedDict[str, AdapterRef] = OrderedDict()
        self._asked: set[str] = set()  # of the wanted, those that are not for sequences only
        self._expected: set[str] = set()  # by sequences that cannot be admitted yet
        self._again = ""  # the digest that was read a second time last
        self.host = HostCache(host_memory)
        self.failures: dict[str, AdapterLoadError] = {}  # since `collect` began last, by digest
        self.num_loads = 0
        self.load_times = LoadTimes()

    def __contains__(self, digest: str) -> bool:
        return digest in self._wanted

    def __iter__(self) -> Iterator[AdapterRef]:
        return iter(self._wanted.values())

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def is_moving(self) -> bool:
        """Whether anybody waits, or anything is being read."""
        return bool(self._wanted) or self._loader.is_busy

    def is_asked_for(self, digest: str) -> bool:
        """Whether it is wanted even if no sequence waits for it."""
        return digest in self._asked

    def want(self, adapter: AdapterRef, *, asked: bool = False) -> None:
        """Have an adapter read that somebody wants in a slot; `asked`: not only sequences do."""
        if asked:
            self._asked.add(adapter.digest)
        if adapter.digest in self._wanted:
            return
        self.failures.pop(adapter.digest, None)  # of an earlier attempt
        self._wanted[adapter.digest] = adapter
        if self.host.get(adapter.digest) is None:
            self._loader.begin(adapter)

    def expect(self, adapter: AdapterRef) -> None:
        """Have an adapter read that will be wanted soon.

        It is read once at most until it is met, or those that are expected together would push one
        another out of a small host memory.
        """
        digest = adapter.digest
        if digest in self._wanted or digest in self._expected:
            return
        if self.host.get(digest) is None:
            self._expected.add(digest)
            self._loader.begin(adapter)

    def met(self, digest: str) -> None:
        """A sequence that was expected to want it has come."""
        self._expected.discard(digest)

    def give_up(self, digest: str) -> bool:
        """Wait for an adapter no longer. False if nobody did."""
        self._asked.discard(digest)
        self._expected.discard(digest)
        self._loader.call_off(digest)
        return self._wanted.pop(digest, None) is not None

    def fail(self, digest: str, error: AdapterLoadError) -> None:
        """Give an adapter up, and say why."""
        self.give_up(digest)
        self.failures[digest] = error

    def collect(self) -> None:
        """Put into host memory what has been read; `failures` are new ones from here on."""
        self.failures = {}
        for loaded in self._loader.finished():
            if isinstance(loaded.outcome, AdapterLoadError):
                self.fail(loaded.digest, loaded.outcome)
            elif loaded.digest in self._wanted or loaded.digest in self._expected:
                # else it was unloaded while it was on its way
                self.host.put(loaded.outcome)
                self.num_loads += 1
                self._moves.note(loaded.outcome.label, "host")
                self.load_times = self.load_times.plus(loaded.seconds)

    def read_again(self, adapter: AdapterRef) -> None:
        """Read an adapter whose host copy had to go while it waited.

        One at a time, or adapters that wait together would push one another out of host memory.
        """
        if not any(self._loader.is_loading(d) for d in (adapter.digest, self._again)):
            self._again = adapter.digest
            self._loader.begin(adapter)

    def stop(self) -> None:
        """Begin nothing more, and wait for nothing."""
        self._loader.stop()
