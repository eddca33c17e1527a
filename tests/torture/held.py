"""What a process holds, counted: objects by type, and what lies in their containers."""

from __future__ import annotations

import gc
from collections import Counter, deque
from collections.abc import Iterator
from types import ModuleType

CONTAINERS = (dict, list, set, deque)  # and what is made of them


def held() -> Counter[str]:
    """How many objects there are of each type, and how many things in containers of each type.

    The second shows what grows by things that are no objects to the collector, as numbers are.
    """
    gc.collect()
    counts: Counter[str] = Counter()
    for each in _objects():
        if type(each) is Counter:
            continue  # as this one, and those of before
        name = f"{type(each).__module__}.{type(each).__qualname__}"
        counts[name] += 1
        if issubclass(type(each), CONTAINERS):  # some objects warn when they are asked themselves
            counts[f"in {name}"] += len(each)  # type: ignore[arg-type]
    return counts


def _objects() -> Iterator[object]:
    """Those that the collector knows, and the dictionaries of plain values, which it leaves out."""
    left_out: set[int] = set()
    for each in gc.get_objects():
        yield each
        if issubclass(type(each), ModuleType):
            # Asyncio's shows objects that it has freed until CPython 3.12.6 (gh-122695).
            continue
        for inner in gc.get_referents(each):
            is_left_out = issubclass(type(inner), dict) and not gc.is_tracked(inner)
            if is_left_out and id(inner) not in left_out:
                left_out.add(id(inner))
                yield inner
