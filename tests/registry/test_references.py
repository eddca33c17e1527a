from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import InvalidReference
from registry.references import Reference, check_alias, check_name

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)
ALIASES = NAMES.filter(lambda name: not name.isdigit())
REFERENCES = st.one_of(
    st.builds(Reference, NAMES),
    st.builds(Reference, NAMES, alias=ALIASES),
    st.builds(Reference, NAMES, number=st.integers(1, 999_999_999)),
    st.builds(
        Reference,
        NAMES,
        digest=st.from_regex(r"sha256:[0-9a-f]{12,64}", fullmatch=True),
    ),
)


def test_the_four_forms() -> None:
    assert Reference.parse("sql") == Reference("sql")
    assert Reference.parse("sql@prod") == Reference("sql", alias="prod")
    assert Reference.parse("sql@7") == Reference("sql", number=7)
    digest = "sha256:0123456789ab"
    assert Reference.parse(f"sql@{digest}") == Reference("sql", digest=digest)


@given(REFERENCES)
def test_text_and_reference_agree(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference


@given(st.text())
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        assert str(Reference.parse(text)) == text
    except InvalidReference:
        return


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "sql@",
        "Sql",
        "sql@Prod",
        "sql\n",
        "sql@prod\n",
        "-sql",
        "a/b",
        "a,b",
        "a:b",
        "a" * 64,
        "sql@0",
        "sql@007",
        "sql@٣",
        "sql@1234567890",
        "sql@sha256:0123",
        "sql@sha256:0123456789AB",
        "sql@sha256:" + "0" * 65,
        "sql@prod@canary",
    ],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        Reference.parse(text)


def test_a_reference_takes_one_target() -> None:
    with pytest.raises(InvalidReference, match="not more"):
        Reference("sql", alias="prod", number=1)


def test_names_and_aliases_by_themselves() -> None:
    assert check_name("7") == "7"
    assert check_alias("v7") == "v7"
    with pytest.raises(InvalidReference, match="not digits alone"):
        check_alias("7")
    with pytest.raises(InvalidReference, match="not an adapter name"):
        check_name("Seven")
