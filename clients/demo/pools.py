"""What generated rows are filled with, apart for training and held-out rows.

Every fifth thing, look, year, number and full name is kept for held-out rows: no training row
has it. First names and cities are shared, and there only their combinations are new. (To spell a
name that it never wrote, a model of 135 million parameters needs more steps than a demo has.)
Of what must be copied unseen there are many, so that to copy is what is learned.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")
Maker = Callable[["Pools", random.Random], tuple[str, str]]

_HELDOUT_EVERY = 5


@dataclass(frozen=True)
class Pools:
    """What generated rows are filled with."""

    people: Sequence[str]
    cities: Sequence[str]
    names: Sequence[str]  # first and last
    things: Sequence[str]
    looks: Sequence[str]
    years: Sequence[int]
    numbers: Sequence[int]


def unique_rows(
    makers: Sequence[Maker], pools: Pools, count: int, *, seed: int, asked: Collection[str] = ()
) -> list[tuple[str, str]]:
    """`count` (question, answer) pairs, all different and none in `asked`; makers take turns."""
    chance = random.Random(seed)
    rows: dict[str, str] = {}
    turn = 0
    while len(rows) < count:
        question, answer = makers[turn % len(makers)](pools, chance)
        if question not in asked:
            rows.setdefault(question, answer)
        turn += 1
    return list(rows.items())


def _words(text: str) -> tuple[str, ...]:
    return tuple(sorted(text.split()))


_PEOPLE = _words(
    """Aaron Alice Anna Bella Boris Carla Chloe Colin Daniel Diana Elena Emma Esther Felix Flora
    George Grace Gustav Harry Henry Ines Isaac Jack Jonas Julia Kevin Laura Liam Lydia Mark
    Miles Nadia Nina Nora Oliver Oscar Pablo Peter Ralph Rosa Sam Simon Stella Tara Thomas
    Tom Vera Walter"""
)
_SURNAMES = _words(
    """Abbott Adler Alves Baker Bauer Becker Bianchi Bishop Brown Burke Carter Clarke Cohen Conrad
    Costa Cruz Dalton Dixon Duarte Ellis Evans Ferrari Fischer Fox Garner Gomez Grant Haddad Hansen
    Harper Hill Hughes Ibarra Jensen Jordan Keller Kim Klein Lambert Lindgren Lopez Marsh Martin
    Mendes Meyer Moreau Murphy Nash Novak Olsen Osei Park Perry Porter Quinn Ramos Reed Rossi
    Sato Schmidt Scott Silva Singh Stone Taylor Turner Vargas Wagner Walsh Ward Weiss Wood Young"""
)
_CITIES = _words(
    """Aberdeen Antwerp Atlanta Baltimore Barcelona Bergen Bern Bologna Bremen Bristol Cairo
    Canberra Cleveland Copenhagen Delhi Detroit Durban Florence Genoa Hanoi Helsinki Jakarta
    Kyoto Lagos Leeds Lima London Madrid Manila Melbourne Milan Moscow Nairobi Nice Oslo
    Paris Phoenix Prague Riga Salzburg Seattle Seville Sofia Stuttgart Tokyo Tunis Vancouver
    Vienna"""
)
_THINGS = _words(
    """apron basket bed bell belt bicycle blanket blind bottle bowl bucket bust cabinet camera
    candle carpet cart chain chair clock coat cot counter crate cup curtain cushion desk door
    drawer drill drum fan filter fork frame gate glove guitar hammer hat heater helmet hook iron
    jacket jar jug kettle keyboard ladder lamp lantern laptop lock mat mirror monitor
    mug napkin necklace notebook oven paddle pan pencil phone piano pillow pipe plate pot printer
    rack radio ring rope ruler saddle scale scarf screen shirt shovel sofa spoon stool table tent
    ticket tile towel tray trunk umbrella vase violin wallet wheel whistle"""
)
_LOOKS = _words(
    """amber bamboo beige big black blue brass bronze brown ceramic cheap copper cotton dark double
    folding glass golden green grey heavy iron large leather light linen long maple marble metal
    modern narrow new oak old orange oval pale paper pine pink plain plastic purple red round
    rubber short silk silver simple small soft square steel stone striped tall thick thin velvet
    walnut white wide wooden wool yellow"""
)


def _pools(*, heldout: bool) -> Pools:
    def mine(values: Sequence[_T]) -> list[_T]:
        return [v for i, v in enumerate(values) if (i % _HELDOUT_EVERY == 0) == heldout]

    return Pools(
        people=_PEOPLE,
        cities=_CITIES,
        names=mine([f"{first} {last}" for first in _PEOPLE for last in _SURNAMES]),
        things=mine(_THINGS),
        looks=mine(_LOOKS),
        years=mine(range(1986, 2026)),
        numbers=mine(range(3, 151)),
    )


TRAINING = _pools(heldout=False)
HELDOUT = _pools(heldout=True)
