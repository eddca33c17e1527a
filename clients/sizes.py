"""Amounts of memory as people write them."""

from __future__ import annotations

import re

import typer

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?(b?)", re.IGNORECASE)
_LEAST_BARE = 2**10  # bytes; a smaller number without any unit was meant in another one


def parse_size(text: str) -> int:
    """Bytes of "512MiB", "2g" or "1048576"; raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size: write 512MiB, 2GB or a number of bytes")
    number, unit, in_bytes = match.groups()
    if not unit and not in_bytes and 0 < float(number) < _LEAST_BARE:
        raise ValueError(f"{number} is so many bytes: write {number}GiB, {number}MiB or {number}B")
    return int(float(number) * _UNITS[(unit or "").lower()])


def size_argument(text: str) -> int:
    """`parse_size` for the command line, whose errors name the option."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
