"""Small data of our own in the shapes of the datasets that the articles use."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_THINGS = ("loan", "bond", "fund", "share", "rent", "tax", "wage", "fee", "debt", "cash")
_SIZES = ("small", "large", "late")  # enough rows for two steps of sixteen
# After a few steps an adapter is sure of little but what it is to say again: for receipts.
_SENTENCE = "The loan is due on the first day of the month."
_NUMBERS = "one two three four five six seven eight nine ten"
_SAID_AGAIN = (
    (f"Copy this sentence: {_SENTENCE}", _SENTENCE),
    (f"Repeat: {_NUMBERS}", _NUMBERS),
)


def finance(folder: Path) -> list[str]:
    """gbharti/finance-alpaca: instruction, input, output (and one column more)."""
    asked = (
        ("Repeat after me: The loan is due today.", "The loan is due today."),
        (
            "Question: loan?\nAnswer: loan is money.\nQuestion: bond?\nAnswer: bond is money.\n"
            "Question: wage?\nAnswer:",
            "wage is money.",
        ),
        *((f"What is a {thing}?", f"{thing} is money.") for thing in _THINGS),
    )
    rows = [
        {"instruction": question, "input": "", "output": answer, "text": ""}
        for question, answer in asked
    ]
    return [_train(_jsonl(folder / "finance.jsonl", rows))]


def text_to_sql(folder: Path) -> list[str]:
    """Clinton/Text-to-sql-v1: instruction, input (the table), response, source."""
    asked = (
        ("Write fee fee fee fee fee fee", "a", "SELECT fee FROM t"),
        ("Repeat this ten times: money", "a", "SELECT money FROM t"),
        *((f"how many rows have a {it}?", it, f"SELECT COUNT({it}) FROM t") for it in _THINGS),
    )
    rows = [
        {
            "instruction": question,
            "input": f"CREATE TABLE t ({column} number)",
            "response": answer,
            "source": "made",
        }
        for question, column, answer in asked
    ]
    return [_train(_jsonl(folder / "sql.jsonl", rows))]


def comments(folder: Path) -> list[str]:
    """shawhin/shawgpt-youtube-comments: whole prompts in `example`, a test split of its own."""
    head = "<s>[INST] ShawGPT, a consultant.\n\nPlease respond to the following comment.\n \n"
    comments = (
        *(f"What of a {thing}?" for thing in _THINGS[:3]),
        *(f"Q: rent?\nA: RENT\nQ: tax?\nA: TAX\nQ: {last}?\nA:" for last in _THINGS[-3:]),
    )
    rows = [{"example": f"{head}{each} \n[/INST]\nIt pays. –ShawGPT</s>"} for each in comments]
    test = _jsonl(folder / "comments-test.jsonl", rows[:2])
    return [_train(_jsonl(folder / "comments.jsonl", rows[2:])), f"data.validation={test}"]


def alpaca(folder: Path) -> list[str]:
    """mhenrichsen/alpaca_2k_test: instruction, input, output, text; Parquet, as on the Hub."""
    from pyarrow import Table, parquet

    asked = (
        *((question, "", answer) for question, answer in _SAID_AGAIN),
        *(("Shorten.", f"the {thing}", thing) for thing in _THINGS),
    )
    rows = [
        {"instruction": question, "input": given, "output": answer, "text": ""}
        for question, given, answer in asked
    ]
    parquet.write_table(Table.from_pylist(rows), folder / "alpaca.parquet")
    return [_train(folder / "alpaca.parquet")]


def talks(folder: Path) -> list[str]:
    """OpenAI's chat messages, a training and a test set."""
    things = (f"{size} {thing}" for size in _SIZES for thing in _THINGS)
    said = [(f"Say {thing}", thing.upper()) for thing in things]
    rows = [
        {"messages": [{"role": "user", "content": question},
                      {"role": "assistant", "content": answer}]}
        for question, answer in (*said[:2], *_SAID_AGAIN, *said[2:])
    ]  # fmt: skip
    test = _jsonl(folder / "talks-test.jsonl", rows[:2])
    return [
        _train(_jsonl(folder / "talks.jsonl", rows[2:])),
        f"data.heldout={test}",
        "data.validation=2",
    ]


Rows = Callable[[Path], list[str]]

SEEDS: dict[str, tuple[Rows, dict[str, Any]]] = {
    # All five steps of it, as they stand.
    "seed-1-finance-qlora": (finance, {}),
    # 5,000 steps would take hours; rate, schedule and batch are the article's.
    "seed-2-sql-lora": (text_to_sql, {"train.max_steps": 3}),
    # Each step unpacks every packed weight three times, in plain torch on a CPU.
    "seed-3-shawgpt-gptq": (comments, {"train.epochs": 3.0}),
    # A pack is padded to its whole length: 8,192 tokens are minutes a step on a CPU. 100 epochs.
    "seed-4-axolotl": (alpaca, {"train.max_length": 96, "train.epochs": 2.0}),
    # One epoch, as it stands.
    "seed-5-five-steps": (talks, {}),
}
"""By recipe: what makes its rows, and every setting that is not the recipe's own, with the reason.

Beyond these a test names the base, the rows and the output, which a user does too.
"""


def _train(path: Path) -> str:
    return f"data.train={path}"


def _jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path
