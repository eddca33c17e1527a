"""Notes as people write them to a furnishing shop, and the order that is in them as JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Collection

from .pools import HELDOUT, TRAINING, Maker, Pools, unique_rows

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# {things} is the plural. Each phrasing names all five facts, in its own order.
_PHRASINGS = (
    "Hi, this is {person} from {city}. Could you send us {number} {things} by {day}?",
    "Please ship {number} {things} to {person} in {city}, latest {day}.",
    "{person} called from {city}: wants {number} {things} before {day}.",
    "We need {number} {things} by {day}. Regards, {person}, {city}",
    "New order on {day} delivery: {things}, {number} of them, for {person}, {city}.",
    "By {day}, {city} needs {number} {things}. Contact: {person}.",
    "{number} {things} for {person} please, to be in {city} on {day}.",
    "Hello! It is {person}. The {city} office is out of {things}; can we have {number} on {day}?",
)


def train_rows(count: int) -> list[tuple[str, str]]:
    """`count` (note, JSON) pairs to learn from, the same ones at every call."""
    return unique_rows(_MAKERS, TRAINING, count, seed=3)


def heldout_rows(count: int, asked: Collection[str]) -> list[tuple[str, str]]:
    """`count` pairs from the held-out pools; none asks what `asked` does."""
    return unique_rows(_MAKERS, HELDOUT, count, seed=4, asked=asked)


def _maker(phrasing: str) -> Maker:
    def make(pools: Pools, chance: random.Random) -> tuple[str, str]:
        order = {
            "name": chance.choice(pools.names),
            "city": chance.choice(pools.cities),
            "item": f"{chance.choice(pools.looks)} {chance.choice(pools.things)}",
            "quantity": chance.choice(pools.numbers),
            "day": chance.choice(_DAYS),
        }
        note = phrasing.format(
            person=order["name"],
            city=order["city"],
            things=f"{order['item']}s",
            number=order["quantity"],
            day=order["day"],
        )
        return note, json.dumps(order, separators=(",", ":"))

    return make


_MAKERS = [_maker(phrasing) for phrasing in _PHRASINGS]
