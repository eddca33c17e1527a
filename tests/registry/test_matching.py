from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.matching import Pattern, UnusablePattern, branches_at_top

KEY = "model.layers.11.self_attn.q_proj"


def plain(pattern: str, text: str) -> tuple[bool, bool]:
    """What `re` says."""
    return re.match(pattern, text) is not None, re.fullmatch(pattern, text) is not None


def ours(pattern: str, text: str) -> tuple[bool, bool]:
    compiled = Pattern(pattern)
    return compiled.matches_start(text), compiled.matches_all(text)


@pytest.mark.parametrize(
    "pattern",
    [
        r".*\.q_proj",
        r"(.*\.)?(q_proj|v_proj)$",
        r"model\.layers\.(1[0-5]|[0-9])\..*(self_attn|mlp).*proj",
        r"(?:.*?(?:language|text).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn)\.(?:q_proj))",
        r".*(?<!mlp)\.q_proj",
        r"^(?!.*mlp).*(?=proj).*$",
        r"[^x]+",
        r"\w+\W\w+.{3}\d\d\D.*",
        r"(a|b|)*model.*",
        r"((m|o|d)*el){1,3}.*",
        r"(?:){1000000}model(?:.){5,}",
        r"\Amodel.*proj\Z",
        r"",
        r"model.layers.11.self_attn.q_proj",
    ],
)
@pytest.mark.parametrize("text", [KEY, "model.layers.3.mlp.up_proj", "q_proj", "", "q_proj\n"])
def test_the_answer_is_that_of_re(pattern: str, text: str) -> None:
    assert ours(pattern, text) == plain(pattern, text)


ATOMS = st.sampled_from(["a", "b", ".", r"\d", r"\w", "[ab]", "[^a]", r"\b", "^", "$", "1", r"\."])


def wrapped(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    quantifier = st.sampled_from(["*", "+", "?", "*?", "+?", "{2}", "{0,2}", "{1,}"])
    return (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})")
        | st.tuples(inner, quantifier).map(lambda pair: f"(?:{pair[0]}){pair[1]}")
        | inner.map(lambda text: f"(?={text})")
        | inner.map(lambda text: f"(?!{text})")
    )


@settings(max_examples=400, deadline=None)
@given(
    pattern=st.recursive(ATOMS, wrapped, max_leaves=8),
    text=st.text(alphabet="ab1.", max_size=7),
)
def test_any_pattern_is_answered_as_by_re(pattern: str, text: str) -> None:
    assert ours(pattern, text) == plain(pattern, text)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(\w+)+!",
        r"(\w|.|\w)*!",
        r"(.*)*!",
        r".*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*!",
        "(.|.)" * 40 + "!",
        "(" * 15 + "." + "*)" * 15 + "!",
        r"(?=(\w+)+!)x",
        r"(?:(?:.{0,40}){0,40}){0,40}!",
    ],
)
def test_what_would_keep_re_busy_for_years_is_answered(pattern: str) -> None:
    assert not Pattern(pattern).matches_start(KEY)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", "unterminated"),
        ("(?i)q_proj", "flags"),
        ("(?i:q_proj)", "flags"),
        (r"(q|k)_proj\1", "groupref"),
        ("(?>a+)b", "atomic"),
        ("a++b", "possessive"),
        (r"(a)?(?(1)b|c)", "groupref exists"),
        ("(" * 60 + ")" * 60, "nested"),
        ("(" * 3000 + ")" * 3000, "recursion|nested"),
        ("a{99999999999999999999}", "too large"),
    ],
)
def test_what_cannot_be_answered_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(UnusablePattern, match=reason):
        Pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "branches"),
    [("a|b", True), ("(a|b)", False), (r"a\|b", False), ("[|]", False), ("[]|]x|y", True)],
)
def test_branches_at_the_top(pattern: str, branches: Any) -> None:
    assert branches_at_top(pattern) is branches
