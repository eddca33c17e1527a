"""A row that is no conversation is named by its line, whichever way it is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry.conversations import BadRow, Conversation, find_bad_rows, read_conversation

ASKED = {"role": "user", "content": "2 + 2?"}
ANSWER = {"role": "assistant", "content": "4"}


def test_a_conversation_ends_with_what_is_learned() -> None:
    system = {"role": "system", "content": "Count."}
    parts = {
        "role": "user",
        "content": [{"type": "text", "text": "2 "}, {"type": "text", "text": "+ 2?"}],
    }
    found = read_conversation({"messages": [system, parts, {**ANSWER, "weight": 0}, ASKED, ANSWER]})
    assert found == Conversation((system, ASKED, ANSWER, ASKED, ANSWER), frozenset({2}))


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "expected a list `messages`"),
        ([ASKED], "last message must be the assistant's"),
        ([ANSWER], "no user message"),
        ([ASKED, {**ANSWER, "content": " "}], "the answer is empty"),
        ([ASKED, {**ANSWER, "weight": 0}], "nothing to learn"),
        ([ASKED, {**ANSWER, "weight": 2}], r"messages\[1\].weight must be 0 or 1"),
        (["hello", ANSWER], r"messages\[0\] must be an object"),
        ([{"role": "tool", "content": "x"}, ANSWER], "role must be one of system, user, assistant"),
        ([{**ASKED, "content": None}, ANSWER], "content must be text, not NoneType"),
        ([{**ASKED, "content": [{"type": "image_url"}]}, ANSWER], "a part that is no text"),
        ([ASKED, {**ANSWER, "tool_calls": [{}]}], "calls a tool"),
        (
            [{**ASKED, "content": "\ud800"}, ANSWER],
            r"messages\[0\].content has half of a surrogate",
        ),
    ],
)
def test_what_is_no_conversation(messages: list[Any], reason: str) -> None:
    with pytest.raises(BadRow, match=reason):
        read_conversation({"messages": messages})


def test_lines_are_counted_as_editors_count_them() -> None:
    good = json.dumps({"messages": [ASKED, ANSWER]}).encode() + b"\n"
    marked = b"\xef\xbb\xbf" + good
    assert find_bad_rows([marked, b"\n", good]) == []
    assert find_bad_rows([good, b"\n", b"[]\n", b"\xff\n"])[0] == "line 3: expected an object"
    assert find_bad_rows([good, marked]) != []  # a mark belongs at the beginning alone
    many = find_bad_rows([b"{}\n"] * 25)
    assert (len(many), many[-1]) == (21, "… and 5 more")
    assert find_bad_rows([b" \n"]) == ["holds no rows"]


@pytest.mark.parametrize(
    "row",
    [
        {"\ud800": 1},
        {f"column {number}": number for number in range(100_000)},
        {"c" * 1_000_000: 1},
        {"messages": [{"role": "r" * 1_000_000}]},
        {"messages": [{"role": "\ud800"}]},
    ],
    ids=["half a character", "many columns", "a long column", "a long role", "half a role"],
)
def test_what_is_said_of_a_row_can_be_sent(row: dict[str, Any]) -> None:
    [problem] = find_bad_rows([json.dumps(row).encode()])
    assert len(problem.encode()) < 2_000
