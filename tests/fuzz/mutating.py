"""Mutations of the JSON inside an input, which reach what stands behind the parser.

Bytes changed blindly are hardly ever JSON any more: a million of them test json.loads.
"""

from __future__ import annotations

import json
import math
import operator
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from registry.safetensors_file import DTYPE_SIZES
from tests.fuzz import asked

_BLIND = 0.25  # the share of inputs that are left to the fuzzer's own mutations
_MOST_DATA = 1 << 12  # bytes behind a header
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**48, 2**63, -(2**70), 0.5, 1e308),
    *("", "a", "sha256:" + "1" * 64, "sha256:" + "G" * 64, "\0", "\ud800", "../x", "lock.json"),
    *("__metadata__", "adapter_model.safetensors", "application/json"),
    *([], [0], [0, 0], [2, 3], [1 << 47, 2], {}, {"a": {}}),
    *DTYPE_SIZES,
)


@dataclass(frozen=True)
class Frame:
    """How JSON lies in an input: `split` into it and the rest, and `join` them again."""

    split: Callable[[bytes], tuple[bytes, bytes]]
    join: Callable[[Any, bytes, Random], bytes]


def mutate(frame: Frame, content: bytes, seed: int) -> bytes | None:
    """The input with its JSON changed in one to four places; None leaves it to others."""
    chance = Random(seed)
    if chance.random() < _BLIND:
        return None
    try:
        text, rest = frame.split(content)
        value = json.loads(text)
    except (ValueError, RecursionError, struct.error):
        return None
    for _ in range(chance.choice((1, 1, 2, 4))):
        value = _changed(value, chance)
    return frame.join(value, rest, chance)


def _changed(value: Any, chance: Random) -> Any:
    """The value with one place in it replaced, removed, doubled or exchanged."""
    places = list(_places(value))
    if not places:
        return chance.choice(_VALUES)
    container, key = chance.choice(places)
    action = chance.randrange(5)
    if action == 0:
        del container[key]
    elif action == 1 and isinstance(container, dict):
        container[str(chance.choice(_VALUES))] = container[key]
    elif action == 1:
        container.insert(key, container[key])
    elif action == 2:
        other, place = chance.choice(places)
        if not isinstance(other[place], dict | list):  # a cycle would be no JSON
            container[key] = other[place]
    elif action == 3 and isinstance(container[key], int):
        container[key] += chance.choice((-1, 1, 2, 256))
    else:
        container[key] = json.loads(json.dumps(chance.choice(_VALUES)))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key in a value, however deep it is."""
    left = [value]
    while left:
        container = left.pop()
        if isinstance(container, dict | list):
            for key in container if isinstance(container, dict) else range(len(container)):
                yield container, key
                left.append(container[key])


def _join_header(value: Any, data: bytes, chance: Random) -> bytes:
    """A header and its data; every second header gets the offsets that its shapes imply."""
    if chance.random() < 0.5 and isinstance(value, dict):
        data = _laid_out(value)
    header = json.dumps(value).encode()
    return struct.pack("<Q", len(header)) + header + data


def _laid_out(header: dict[str, Any]) -> bytes:
    """Give every tensor the offsets after the one before; returns data of that length."""
    end = 0
    for entry in header.values():
        try:
            size = DTYPE_SIZES[entry["dtype"]] * math.prod(map(operator.index, entry["shape"]))
            if 0 <= end + size <= _MOST_DATA:
                entry["data_offsets"] = [end, end + size]
                end += size
        except (KeyError, TypeError, ValueError):
            continue  # not a tensor any more
    return bytes(end)


def _split_header(content: bytes) -> tuple[bytes, bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    return content[8 : 8 + length], content[8 + length :]


_JSON = Frame(lambda content: (content, b""), lambda value, _, __: json.dumps(value).encode())
FRAMES: Mapping[str, Frame] = {
    "adapter_config": _JSON,
    "lock": _JSON,
    "manifest": _JSON,
    "registry_api": Frame(asked.split, asked.join),
    "server_api": Frame(asked.split, asked.join),
    "safetensors": Frame(_split_header, _join_header),
}
