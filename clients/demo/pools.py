"""What generated rows are filled with, apart for training and held-out rows.

Every fifth thing, look, year, number and full name is kept for held-out rows: no training row
has it. First names and cities are shared, and there only their combinations are new. (To spell a
name that it never wrote, a model of 135 million parameters needs more steps than a demo has.)
There are many of each, so that what is learned is to copy and not to know the list.
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
    """Aaron Adam Alice Amelia Anna Arthur Bella Ben Boris Bruno Carla Cecilia Chloe Clara Colin
    Cora Daniel David Diana Dora Edgar Elena Elias Emma Erik Esther Eva Felix Fiona Flora Frank
    George Gloria Grace Greta Gustav Hannah Harry Helen Henry Hugo Ida Ines Irene Isaac Ivan Jack
    Jane Jonas Judith Julia Karin Kevin Kira Laura Leo Liam Lucy Lydia Marcus Maria Mark Martin
    Miles Mona Nadia Nils Nina Noah Nora Olga Oliver Olivia Oscar Otto Pablo Paul Peter Rachel
    Ralph Rita Robin Rosa Ruth Sam Sarah Simon Sonia Stella Steve Tara Theo Thomas Tina Tom Ursula
    Vera Victor Walter Wendy Yara"""
)
_SURNAMES = _words(
    """Abbott Adler Alves Baker Bauer Becker Bianchi Bishop Brown Burke Carter Clarke Cohen Conrad
    Costa Cruz Dalton Dixon Duarte Ellis Evans Ferrari Fischer Fox Garner Gomez Grant Haddad Hansen
    Harper Hill Hughes Ibarra Jensen Jordan Keller Kim Klein Lambert Lindgren Lopez Marsh Martin
    Mendes Meyer Moreau Murphy Nash Novak Olsen Osei Park Perry Porter Quinn Ramos Reed Rossi
    Sato Schmidt Scott Silva Singh Stone Taylor Turner Vargas Wagner Walsh Ward Weiss Wood Young"""
)
_CITIES = _words(
    """Aberdeen Ankara Antwerp Athens Atlanta Auckland Austin Baltimore Bangkok Barcelona Beijing
    Belfast Bergen Berlin Bern Bilbao Bogota Bologna Boston Bremen Brisbane Bristol Brussels
    Budapest Cairo Calgary Canberra Cardiff Chicago Cleveland Cologne Copenhagen Dakar Dallas Delhi
    Denver Detroit Dresden Dublin Durban Edinburgh Florence Geneva Genoa Glasgow Hamburg Hanoi
    Havana Helsinki Houston Istanbul Jakarta Karachi Kiev Krakow Kyoto Lagos Lahore Leeds Leipzig
    Lima Lisbon Liverpool London Lyon Madrid Malaga Manchester Manila Marseille Melbourne Memphis
    Miami Milan Montreal Moscow Mumbai Munich Nairobi Naples Nice Osaka Oslo Ottawa Oxford Paris
    Perth Phoenix Porto Portland Prague Quebec Riga Rome Rotterdam Salzburg Santiago Seattle Seoul
    Seville Shanghai Singapore Sofia Stockholm Stuttgart Sydney Tehran Tokyo Toronto Tunis Turin
    Valencia Vancouver Venice Vienna Warsaw Zurich"""
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
