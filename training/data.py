"""Rows from JSONL, JSON, CSV and Parquet files, each with the place it came from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import DataError, MissingExtra


@dataclass(frozen=True)
class Row:
    """One row as it was written. `place` is "file:line"."""

    place: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class NoRow:
    """What stands where a row should be, and why it is none."""

    place: str
    reason: str


def read_rows(path: Path) -> list[Row | NoRow]:
    """Every row of one file, told apart by its suffix (.jsonl, .json, .csv, .parquet), in order.

    Raises `DataError` for a file that cannot be read or holds nothing, `MissingExtra` without the
    extra `data`.
    """
    rows: list[Row | NoRow] = []
    for line, value in _lines(path):
        place = f"{path}:{line}"
        if isinstance(value, dict):
            rows.append(Row(place, value))
        else:
            rows.append(NoRow(place, value if isinstance(value, str) else "not an object"))
    if not rows:
        raise DataError([f"{path}: holds no rows"])
    return rows


def _lines(path: Path) -> _Lines:
    if path.suffix.lower() == ".parquet":
        return _parquet(path)
    readers = {".jsonl": _jsonl, ".json": _json, ".csv": _csv}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        known = ", ".join([*readers, ".parquet"])
        raise DataError([f"{path}: cannot tell the format; known are {known}"])
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front of the first column's name.
        return reader(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError([f"{path}: no such file"]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError([f"{path}: cannot be read: {error}"]) from error


# A reader yields (line, row), or (line, what is wrong) where there is no row.
_Lines = Iterator[tuple[int, dict[str, Any] | str | None]]


def _jsonl(text: str) -> _Lines:
    # Not splitlines(), which also splits at U+2028 and its like inside a JSON string.
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            yield line, _object(content)


def _object(content: str) -> dict[str, Any] | str:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        return f"not valid JSON: {error}"
    return value if isinstance(value, dict) else f"expected an object, got {_kind(value)}"


def _json(text: str) -> _Lines:
    """One array of objects, decoded item by item to know the line of each."""
    decoder = json.JSONDecoder()
    position = _skip(text, 0)
    if text[position : position + 1] != "[":
        yield 1, "expected a list of objects"
        return
    position = _skip(text, position + 1)
    line, counted = 1, 0
    while position < len(text) and text[position] != "]":
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            yield line, f"not valid JSON: {error}"
            return
        yield line, value if isinstance(value, dict) else f"expected an object, got {_kind(value)}"
        position = _skip(text, position)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
    if position >= len(text):
        yield text.count("\n") + 1, "the list is not closed: is the file cut off?"
    elif text[position + 1 :].strip():
        line = text.count("\n", 0, _skip(text, position + 1)) + 1
        yield line, "there is more after the list: a file holds one list, a .jsonl an object a line"


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _csv(text: str) -> _Lines:
    # Not splitlines(), which also splits at U+2028 and its like inside a cell.
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        for row in reader:
            if None in row:
                yield reader.line_num, "has more cells than the header has columns"
            elif None in row.values():
                yield reader.line_num, "has fewer cells than the header has columns"
            else:
                yield reader.line_num, dict(row)
    except csv.Error as error:
        yield reader.line_num, f"not valid CSV: {error}"


def _parquet(path: Path) -> _Lines:
    """Rows are numbered from 1, since there are no lines."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingExtra("pyarrow", "data", "Reading Parquet") from None
    try:
        with ParquetFile(path) as file:
            batches = [batch.to_pylist() for batch in file.iter_batches()]
    except FileNotFoundError as error:
        raise DataError([f"{path}: no such file"]) from error
    except (OSError, ArrowException) as error:
        raise DataError([f"{path}: cannot be read: {error}"]) from error
    yield from enumerate((row for batch in batches for row in batch), start=1)


def _kind(value: Any) -> str:
    names = {list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
