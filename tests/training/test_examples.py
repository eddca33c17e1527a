"""Rows become conversations; a bad row is named by file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training import hub_rows
from training.errors import DataError, MissingExtra
from training.examples import Example, read_examples
from training.recipe import DataSettings
from training.sources import HubDataset


def examples(path: Path, **settings: Any) -> tuple[Example, ...]:
    return read_examples(DataSettings(train=(path,), **settings)).train


def refused(path: Path, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        examples(path, **settings)
    return caught.value.message.replace(str(path), path.name)


def messages(*pairs: tuple[str, Any]) -> str:
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in pairs]})


def test_messages_end_with_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(messages(("system", "s"), ("user", "q"), ("assistant", "a")) + "\n\n")
    [example] = examples(path)
    assert example.answer == "a"
    assert [message["role"] for message in example.prompt] == ["system", "user"]
    assert example.place == f"{path}:1"


def test_alpaca_appends_the_input_where_there_is_one(tmp_path: Path) -> None:
    rows = [
        {"instruction": "add", "input": "1 2", "output": "3"},
        {"instruction": "greet", "input": "", "output": "hi"},
    ]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, indent=1))
    prompts = [example.prompt[0]["content"] for example in examples(path, format="alpaca")]
    assert prompts == ["add\n\n1 2", "greet"]


def test_instruction_takes_any_two_columns_of_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('﻿ask,say\n"a\nb",c\nd,e\n', encoding="utf-8")
    found = examples(path, format="instruction", prompt_column="ask", answer_column="say")
    assert [(e.prompt[0]["content"], e.answer) for e in found] == [("a\nb", "c"), ("d", "e")]


def test_a_template_fills_in_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"q": "why", "a": "so"}\n')
    [example] = examples(path, format="template", prompt="{{Q}} {q}?", answer="{a}.")
    assert example.prompt[0]["content"] == "{Q} why?"
    assert example.answer == "so."


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not valid JSON: Expecting property name"),
        ("[1]", "expected an object, got a list"),
        ('{"text": "x"}', "expected a list `messages`, found `text`"),
        (messages(("user", "q")), "the last message must be the assistant's"),
        (messages(("assistant", "a")), "there is no user message before the answer"),
        (messages(("user", "q"), ("assistant", " ")), "the answer is empty"),
        (
            messages(("human", "q"), ("assistant", "a")),
            "role must be one of system, user, assistant",
        ),
        (messages(("user", 3), ("assistant", "a")), "messages[0].content must be text, not int"),
        ('{"messages": [3]}', "messages[0] must be an object"),
        ('{"messages": ' + "[" * 100_000, "not valid JSON: "),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    good = messages(("user", "q"), ("assistant", "a"))
    path.write_text(f"{good}\n{line}\n")
    found = refused(path)
    assert found.startswith("rows.jsonl:2: ")
    assert reason in found


def test_all_bad_rows_are_named_and_many_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n" * 25)
    lines = refused(path).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "… and 5 more"


def test_a_line_that_cannot_be_read_hides_no_other_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"messages": []}\nnot json\n\n{"prompt": "a"}\n')
    named = [line.partition(": ")[0] for line in refused(path).splitlines()]
    assert named == ["rows.jsonl:1", "rows.jsonl:2", "rows.jsonl:4"]


def test_rows_of_a_json_list_have_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[\n {"instruction": "a", "output": "b"},\n\n 3,\n {"output": "b"}\n]')
    assert refused(path, format="alpaca").splitlines() == [
        "rows.json:4: expected an object, got a number",
        "rows.json:5: there is no column `instruction`, found `output`",
    ]
    path.write_text('[\n {"instruction": "a", "output": "b"},\n {"output": "b"}\n]')
    assert refused(path, format="alpaca").startswith(
        "rows.json:3: there is no column `instruction`"
    )
    path.write_text('[\n {"instruction": "a", "output": "b"}')
    assert "is the file cut off?" in refused(path, format="alpaca")
    path.write_text(
        '[\n {"instruction": "a", "output": "b"}]\n[{"instruction": "c", "output": "d"}]'
    )
    assert refused(path, format="alpaca").startswith("rows.json:3: there is more after the list")
    path.write_text("[" * 100_000)
    assert refused(path, format="alpaca").startswith("rows.json:1: not valid JSON: ")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": None, "output": "b"}, "`instruction` is null"),
        ({"instruction": "a", "input": 5, "output": "b"}, "`input` must be text, not int"),
        ({"instruction": "a\ud800", "output": "b"}, "`instruction` has half of a surrogate pair"),
        ({"instruction": "a", "input": "\ud800", "output": "b"}, "`input` has half of a surrogate"),
    ],
)
def test_a_column_has_to_be_text(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    assert refused(path, format="alpaca").startswith(f"rows.jsonl:1: {reason}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a,b\n1\n", "rows.csv:2: has fewer cells than the header has columns"),
        ("a,b\n1,2,3\n", "rows.csv:2: has more cells than the header has columns"),
        ("a,b\n,2\n", "rows.csv:2: `a` is empty"),
        ("a,b\n", "rows.csv: holds no rows"),
    ],
)
def test_a_bad_csv_is_named(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content)
    settings = {"format": "instruction", "prompt_column": "a", "answer_column": "b"}
    assert refused(path, **settings) == reason


def test_a_cell_may_hold_any_character(tmp_path: Path) -> None:
    """Those that end a line for Python, but not in a CSV, too."""
    path = tmp_path / "rows.csv"
    path.write_bytes("ask,say\r\nq\u2028\x85\x0cr,a\r\n".encode())
    [found] = examples(path, format="instruction", prompt_column="ask", answer_column="say")
    assert (found.prompt[0]["content"], found.answer) == ("q\u2028\x85\x0cr", "a")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.jsonl") == "none.jsonl: no such file"
    other = tmp_path / "rows.xlsx"
    other.touch()
    assert "cannot tell the format" in refused(other)


def test_validation_is_kept_off_the_training_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(messages(("user", str(n)), ("assistant", "a")) for n in range(10)))
    parts = read_examples(DataSettings(train=(path,), validation=0.3))
    again = read_examples(DataSettings(train=(path,), validation=3))
    assert (len(parts.train), len(parts.validation)) == (7, 3)
    assert parts == again
    assert not {e.place for e in parts.train} & {e.place for e in parts.validation}
    with pytest.raises(DataError, match="none would train"):
        read_examples(DataSettings(train=(path,), validation=10))


def test_a_heldout_question_may_not_be_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(messages(("user", "q"), ("assistant", "a")))
    with pytest.raises(DataError, match="this held-out question is also trained on"):
        read_examples(DataSettings(train=(path,), heldout=(path,)))


def test_content_in_parts_is_joined_and_weights_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": text} for text in "ab"]},
            {"role": "assistant", "content": "c", "weight": 0},
            {"role": "user", "content": "d"},
            {"role": "assistant", "content": "e", "weight": 1},
        ]
    }  # fmt: skip
    path.write_text(json.dumps(row))
    [example] = examples(path)
    assert example.prompt[0] == {"role": "user", "content": "ab"}
    assert example.unlearned == {1}
    row["messages"][-1]["weight"] = 0
    path.write_text(json.dumps(row))
    assert "there is nothing to learn" in refused(path)
    row["messages"][0]["content"] = [{"type": "image_url"}]
    path.write_text(json.dumps(row))
    assert "has a part that is no text" in refused(path)


def test_text_is_taken_apart_by_a_pattern_or_learned_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    texts = ["<s>[INST] Be brief.\nHow? [/INST]\nSo.</s>", "[INST] Be brief.\nWhy? [/INST] Thus."]
    path.write_text("".join(json.dumps({"example": text}) + "\n" for text in texts))
    pattern = r"(?s).*brief\.\s(?P<prompt>.+?) \[/INST\]\s*(?P<answer>.+?)(</s>)?"
    found = examples(path, format="text", text_column="example", pattern=pattern)
    assert [(e.prompt[0]["content"], e.answer) for e in found] == [
        ("How?", "So."),
        ("Why?", "Thus."),
    ]
    whole = examples(path, format="text", text_column="example")
    assert [(e.prompt, e.answer) for e in whole] == [((), text) for text in texts]
    refusal = refused(
        path, format="text", text_column="example", pattern="(?P<prompt>x)(?P<answer>y)"
    )
    assert refusal.startswith("rows.jsonl:1: `data.pattern` does not match '<s>[INST]")
    refusal = refused(
        path, format="text", text_column="example", pattern="(?s)(?P<prompt>.+)|(?P<answer>.+)"
    )
    assert refusal.startswith("rows.jsonl:1: `data.pattern` finds no `answer` in '<s>[INST]")


@pytest.mark.parametrize("pattern", ["(", "(?P<prompt>.*)"])
def test_a_pattern_needs_both_groups(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        DataSettings(train=(Path("x.jsonl"),), format="text", pattern=pattern)


def test_parquet_is_read_and_its_bad_rows_are_numbered(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    table = pyarrow.table({"instruction": ["a", "b", ""], "output": ["1", "2", "3"]})
    parquet.write_table(table, path)
    assert refused(path, format="instruction") == "rows.parquet:3: `instruction` is empty"
    parquet.write_table(table.slice(0, 2), path)
    assert [e.answer for e in examples(path, format="instruction")] == ["1", "2"]
    path.write_text("no parquet")
    assert "cannot be read" in refused(path, format="instruction")


def test_a_dataset_of_the_hub_is_read_by_its_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`datasets` looks for a folder of that name before it asks the Hub."""
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("training.hub_rows._commit", lambda _: None)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "org" / "rows"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text('{"instruction": "a", "output": "b"}\n' * 3)
    (folder / "test.jsonl").write_text('{"instruction": "c", "output": ""}\n')
    source = HubDataset.parse("hf://org/rows:train[:2]")
    parts = read_examples(DataSettings(train=(source,), format="alpaca"))
    assert [e.answer for e in parts.train] == ["b", "b"]
    assert parts.digests.keys() == {"hf://org/rows:train[:2]"}
    with pytest.raises(DataError, match=r"hf://org/rows:test:1: `output` is empty"):
        read_examples(
            DataSettings(train=(HubDataset.parse("hf://org/rows:test"),), format="alpaca")
        )
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match=r"hf://org/none:train: cannot be read"):
        read_examples(DataSettings(train=(HubDataset.parse("hf://org/none"),), format="alpaca"))


def test_a_hub_that_cannot_be_reached_names_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens at that port; what is in the cache has to do then."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert hub_rows._commit(HubDataset("org/rows")) is None


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf://a/b", ("a/b", None, "train")),
        ("hf://a/b@main:test", ("a/b", "main", "test")),
        ("hf://a/b-c.d@0123abc:train[:10%]", ("a/b-c.d", "0123abc", "train[:10%]")),
    ],
)
def test_the_name_of_a_hub_dataset(text: str, parts: tuple[Any, ...]) -> None:
    found = HubDataset.parse(text)
    assert (found.repository, found.revision, found.split) == parts
    assert HubDataset.parse(str(found)) == found


@pytest.mark.parametrize("text", ["hf://a", "hf://a/b/c", "hf://a/b:", "hf://a/b@"])
def test_what_is_no_name_of_a_hub_dataset(text: str) -> None:
    with pytest.raises(ValueError, match="is written hf://"):
        HubDataset.parse(text)


def test_without_the_extra_its_name_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    for source in (tmp_path / "x.parquet", HubDataset("a/b")):
        with pytest.raises(MissingExtra, match=r"hatstand\[data\]"):
            read_examples(DataSettings(train=(source,), format="alpaca"))
