"""Questions about a small shop's database, and the SQL that answers them.

Tables: customers(id, name, city, age), orders(id, customer_id, product, amount, status, year).
"""

from __future__ import annotations

import random
from collections.abc import Collection

from .pools import HELDOUT, TRAINING, Pools, unique_rows

_STATUSES = ("open", "paid", "shipped", "returned")


def train_rows(count: int) -> list[tuple[str, str]]:
    """`count` (question, SQL) pairs to learn from, the same ones at every call."""
    return unique_rows(_MAKERS, TRAINING, count, seed=1)


def heldout_rows(count: int, asked: Collection[str]) -> list[tuple[str, str]]:
    """`count` pairs from the held-out pools; none asks what `asked` does."""
    return unique_rows(_MAKERS, HELDOUT, count, seed=2, asked=asked)


def _customers_of_city(pools: Pools, chance: random.Random) -> tuple[str, str]:
    city = chance.choice(pools.cities)
    question = _phrase(
        chance,
        f"Which customers live in {city}?",
        f"List the customers from {city}.",
        f"Who lives in {city}?",
    )
    return question, f"SELECT name FROM customers WHERE city = '{city}';"


def _customers_by_age(pools: Pools, chance: random.Random) -> tuple[str, str]:
    age = chance.choice(pools.numbers)
    words, sign = chance.choice((("older than", ">"), ("younger than", "<")))
    where, clause = _maybe_city(pools, chance)
    question = _phrase(
        chance,
        f"Which customers{where} are {words} {age}?",
        f"List the customers{where} who are {words} {age}.",
    )
    return question, f"SELECT name FROM customers WHERE {clause}age {sign} {age};"


def _count_customers(pools: Pools, chance: random.Random) -> tuple[str, str]:
    age = chance.choice(pools.numbers)
    words, sign = chance.choice((("older than", ">"), ("younger than", "<")))
    where, clause = _maybe_city(pools, chance)
    question = _phrase(
        chance,
        f"How many customers{where} are {words} {age}?",
        f"Count the customers{where} who are {words} {age}.",
    )
    return question, f"SELECT COUNT(*) FROM customers WHERE {clause}age {sign} {age};"


def _aggregate_orders(pools: Pools, chance: random.Random) -> tuple[str, str]:
    words, function = chance.choice(
        (("total", "SUM"), ("average", "AVG"), ("highest", "MAX"), ("lowest", "MIN"))
    )
    status, year = chance.choice(_STATUSES), chance.choice(pools.years)
    question = _phrase(
        chance,
        f"What is the {words} amount of {status} orders in {year}?",
        f"What was the {words} amount of orders {status} in {year}?",
        f"Give me the {words} amount of all {status} orders from {year}.",
    )
    where = f"status = '{status}' AND year = {year}"
    return question, f"SELECT {function}(amount) FROM orders WHERE {where};"


def _count_orders(pools: Pools, chance: random.Random) -> tuple[str, str]:
    thing, year = chance.choice(pools.things), chance.choice(pools.years)
    question = _phrase(
        chance,
        f"How many {thing} orders were there in {year}?",
        f"How often was {_a(thing)} ordered in {year}?",
        f"Count the {thing} orders of {year}.",
    )
    return question, f"SELECT COUNT(*) FROM orders WHERE product = '{thing}' AND year = {year};"


def _largest_orders(pools: Pools, chance: random.Random) -> tuple[str, str]:
    many, year = chance.choice(pools.numbers), chance.choice(pools.years)
    words, order = chance.choice((("largest", "DESC"), ("smallest", "ASC")))
    question = _phrase(
        chance,
        f"What are the {many} {words} orders of {year}?",
        f"Show the {many} {words} orders from {year}.",
    )
    return (
        question,
        f"SELECT * FROM orders WHERE year = {year} ORDER BY amount {order} LIMIT {many};",
    )


def _orders_over(pools: Pools, chance: random.Random) -> tuple[str, str]:
    status, amount = chance.choice(_STATUSES), chance.choice(pools.numbers)
    words, sign = chance.choice((("more than", ">"), ("less than", "<")))
    question = _phrase(
        chance,
        f"Which {status} orders cost {words} {amount}?",
        f"List the {status} orders of {words} {amount}.",
    )
    return question, f"SELECT * FROM orders WHERE status = '{status}' AND amount {sign} {amount};"


def _bought_by(pools: Pools, chance: random.Random) -> tuple[str, str]:
    person = chance.choice(pools.people)
    column, question = chance.choice(
        (
            ("product", f"What did {person} order?"),
            ("product", f"Which products did {person} buy?"),
            ("amount", f"What are the amounts of {person}'s orders?"),
            ("status", f"What is the status of {person}'s orders?"),
        )
    )
    return question, f"SELECT {column} FROM orders {_JOIN} WHERE name = '{person}';"


def _buyers_of(pools: Pools, chance: random.Random) -> tuple[str, str]:
    thing, year = chance.choice(pools.things), chance.choice(pools.years)
    question = _phrase(
        chance,
        f"Who bought {_a(thing)} in {year}?",
        f"Which customers ordered {_a(thing)} in {year}?",
    )
    where = f"product = '{thing}' AND year = {year}"
    return question, f"SELECT name FROM orders {_JOIN} WHERE {where};"


def _count_by(pools: Pools, chance: random.Random) -> tuple[str, str]:
    year = chance.choice(pools.years)
    column = chance.choice(("status", "product"))
    question = _phrase(
        chance,
        f"How many orders per {column} were there in {year}?",
        f"Count the orders of {year} by {column}.",
    )
    where = f"WHERE year = {year} GROUP BY {column}"
    return question, f"SELECT {column}, COUNT(*) FROM orders {where};"


_JOIN = "JOIN customers ON customers.id = customer_id"
_MAKERS = (
    _customers_of_city,
    _customers_by_age,
    _count_customers,
    _aggregate_orders,
    _count_orders,
    _largest_orders,
    _orders_over,
    _bought_by,
    _buyers_of,
    _count_by,
)


def _phrase(chance: random.Random, *phrasings: str) -> str:
    return chance.choice(phrasings)


def _a(thing: str) -> str:
    return f"an {thing}" if thing[0] in "aeiou" else f"a {thing}"


def _maybe_city(pools: Pools, chance: random.Random) -> tuple[str, str]:
    """A condition on the city half of the time: its words and its SQL."""
    if chance.random() < 0.5:
        return "", ""
    city = chance.choice(pools.cities)
    return f" from {city}", f"city = '{city}' AND "
