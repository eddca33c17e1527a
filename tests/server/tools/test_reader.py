"""Calls are read alike however the text is cut, and what is no call stays text."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.tools import CallReader, ToolFormat, find_format
from server.tools.formats import HERMES, MISTRAL, MISTRAL_NAMED

ARGUMENTS = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        st.none() | st.integers() | st.text('ab{}[]"\\,</tool_call>é', max_size=8),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
        max_leaves=4,
    ),
    max_size=3,
)
CALLS = st.lists(
    st.tuples(st.sampled_from(["f", "get_weather"]), ARGUMENTS), min_size=1, max_size=3
)
Calls = list[tuple[str, dict[str, Any]]]


def write(form: ToolFormat, calls: Calls) -> str:
    objects = [json.dumps({"name": name, "arguments": given}) for name, given in calls]
    if form is HERMES:
        return "\n".join(f"<tool_call>\n{one}\n</tool_call>" for one in objects)
    if form is MISTRAL:
        return f"[TOOL_CALLS] [{', '.join(objects)}]"
    return "".join(f"[TOOL_CALLS]{name}[ARGS]{json.dumps(given)}" for name, given in calls)


def read(form: ToolFormat, pieces: list[str]) -> tuple[str, Calls]:
    reader, text = CallReader(form), ""
    names: list[str] = []
    arguments: list[str] = []
    found = [part for piece in pieces for part in reader.push(piece)]
    for part in [*found, *reader.finish()]:
        if isinstance(part, str):
            text += part
            continue
        if part.name is not None:
            assert part.index == len(names)
            names.append(part.name)
            arguments.append("")
        arguments[part.index] += part.arguments
    assert reader.num_calls == len(names)
    return text, list(zip(names, map(json.loads, arguments), strict=True))


@pytest.mark.parametrize("form", [HERMES, MISTRAL, MISTRAL_NAMED], ids=lambda form: form.name)
@given(before=st.sampled_from(["", "Let me see. "]), calls=CALLS, data=st.data())
def test_any_cut_reads_the_same(
    form: ToolFormat, before: str, calls: Calls, data: st.DataObject
) -> None:
    text = before + write(form, calls)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    pieces = [text[a:b] for a, b in pairwise([0, *sorted(cuts), len(text)])]
    assert read(form, pieces) == (before, calls)
    assert read(form, list(text)) == (before, calls)


def test_arguments_stream_as_they_come() -> None:
    reader = CallReader(HERMES)
    reader.push('<tool_call>\n{"name": "f", ')
    [named, first] = reader.push('"arguments": {"a": "xy')
    [second] = reader.push('z"}')
    assert [named.name, first.arguments, second.arguments] == ["f", '{"a": "xy', 'z"}']
    assert reader.push("}\n</tool_call>") == reader.finish() == []


@pytest.mark.parametrize(
    "call",
    [
        '{"arguments": {"a": 1}, "name": "f"}',
        '{ "name":"f" , "parameters": {"a": 1} }',
        '{"name": "f", "arguments": "{\\"a\\": 1}"}',
    ],
)
def test_other_spellings_are_read_when_they_are_whole(call: str) -> None:
    assert read(HERMES, list(f"<tool_call>{call}</tool_call>")) == ("", [("f", {"a": 1})])


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (HERMES, "no call at all, <tool_cal"),
        (HERMES, '<tool_call>{"no": "name"}'),
        (HERMES, '<tool_call>{"name": "f", "argu'),
        (MISTRAL, '[TOOL_CALLS]{"name": 7, "arguments": {}}'),
    ],
)
def test_what_is_no_call_stays_text(form: ToolFormat, text: str) -> None:
    assert read(form, list(text)) == (text, [])


def test_a_call_that_is_cut_keeps_what_there_is() -> None:
    reader = CallReader(MISTRAL)
    pieces = reader.push('[TOOL_CALLS] [{"name": "f", "arguments": {"a": [1, ')
    assert (
        "".join(piece.arguments for piece in pieces if not isinstance(piece, str)) == '{"a": [1, '
    )
    assert reader.finish() == []


def test_the_template_says_which_format() -> None:
    assert find_format("… [TOOL_CALLS] …") is MISTRAL
    assert find_format("… [TOOL_CALLS] … [ARGS] …") is MISTRAL_NAMED
    assert find_format("… <tool_call> …") is HERMES
    assert find_format("{{ messages }}") is None
    assert {len(MISTRAL.new_id()) for _ in range(9)} == {9}
