"""Where this process's memory lies, and what came to it between two looks."""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tests.torture.held import CONTAINERS, held

KIB, MIB = 1 << 10, 1 << 20
MOST = 12  # lines of each kind
LARGE = 64  # things in a container, from which on it is followed by itself


class Mallinfo(ctypes.Structure):
    """`mallinfo2` of glibc: bytes, over all of its arenas."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


@dataclass(frozen=True)
class Look:
    """parts: MiB by who says so; mappings: resident KiB by address and name; held: objects by type
    and things in containers by type; sizes: things in each large container, by its address.
    """

    at: float
    parts: Mapping[str, float]
    mappings: Mapping[str, int]
    held: Counter[str]
    sizes: Mapping[int, int] = field(repr=False)

    @classmethod
    def now(cls) -> Look:
        """It lasts about a second, since what was frozen is looked through too."""
        gc.unfreeze()
        counts = held()
        sizes = {id(each): len(each) for each in _large_containers()}
        gc.freeze()
        return cls(time.monotonic(), _parts(), _mappings(), counts, sizes)

    def since(self, before: Look) -> Iterator[str]:
        """For people: what there is more of than before."""
        hours = (self.at - before.at) / 3600
        for name, size in self.parts.items():
            grown = size - before.parts[name]
            yield f"{name:24} {size:10.2f} {grown:+8.2f} {grown / hours:+9.1f} an hour"
        for title, now, then in (
            ("KiB", Counter(self.mappings), before.mappings),
            ("held", self.held, before.held),
        ):
            grown_by = {name: count - then.get(name, 0) for name, count in now.items()}
            most = sorted(grown_by, key=grown_by.__getitem__, reverse=True)[:MOST]
            yield from (f"{grown_by[name]:+8} {title:5} {name}" for name in most if grown_by[name])
        yield from self._grown_containers(before)

    def _grown_containers(self, before: Look) -> Iterator[str]:
        grown = {each: size - before.sizes.get(each, LARGE) for each, size in self.sizes.items()}
        most = [each for each in sorted(grown, key=grown.__getitem__)[-MOST:] if grown[each] > 0]
        gc.unfreeze()
        there = {id(each): each for each in _large_containers() if id(each) in most}
        gc.freeze()
        for address in reversed(most):
            if address in there:
                yield f"{grown[address]:+8} in    {_describe(there[address])}"


def _large_containers() -> Iterator[Collection[object]]:
    for each in gc.get_objects():
        if issubclass(type(each), CONTAINERS) and type(each) is not Counter and len(each) > LARGE:
            yield each


def _describe(container: Collection[object]) -> str:
    """A container's type, what is in it, and who has it."""
    inner = next(iter(container), None)
    owners = {type(each).__qualname__ for each in gc.get_referrers(container)}
    names = sorted(owners - {"list", "frame", "generator", "cell", "list_iterator"})
    return f"{type(container).__qualname__} of {str(inner)[:40]!r}, of {', '.join(names)[:120]}"


def _parts() -> dict[str, float]:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    resident = {
        f"{name}, the system": int(status[name].split()[0]) * KIB / MIB
        for name in ("VmRSS", "RssAnon", "RssFile", "RssShmem")
    }
    return {**resident, **_malloc(), **_torch(), "Python's blocks, 1000": _blocks()}


def _blocks() -> float:
    return sys.getallocatedblocks() / 1000


def _malloc() -> dict[str, float]:
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Mallinfo
    info = libc.mallinfo2()
    return {
        "malloc, heaps": info.arena / MIB,
        "malloc, in use": info.uordblks / MIB,
        "malloc, free": info.fordblks / MIB,
        "malloc, mapped": info.hblkhd / MIB,
    }


def _torch() -> dict[str, float]:
    if not torch.cuda.is_initialized():
        return {}
    host = torch.cuda.host_memory_stats()
    pinned = {
        f"torch, pinned {what}": host[f"{what}_bytes.current"] / MIB
        for what in ("allocated", "active")
        if f"{what}_bytes.current" in host
    }
    return {
        "torch, device in use": torch.cuda.memory_allocated() / MIB,
        "torch, device kept": torch.cuda.memory_reserved() / MIB,
        **pinned,
    }


def _mappings() -> dict[str, int]:
    """Resident KiB of each mapping, by where it begins and what it is of."""
    sizes, name = dict[str, int](), ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            name = f"{words[0].partition('-')[0]} {words[5] if len(words) > 5 else 'anonymous'}"
        elif words[0] == "Rss:":
            sizes[name] = int(words[1])
    return sizes
