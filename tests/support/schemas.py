"""Random JSON Schemas, of the keywords that structured output promises to keep."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NAMES = st.text('abcxyz_ é"', min_size=1, max_size=4)
Schema = dict[str, Any]


def _strings() -> st.SearchStrategy[Schema]:
    lengths = st.tuples(st.integers(0, 2), st.integers(2, 6)).map(
        lambda ends: {"type": "string", "minLength": ends[0], "maxLength": ends[1]}
    )
    patterns = st.sampled_from(["^[a-c]{1,3}$", "^x?y+z{2}$", "^(ab|cd){2}$"])
    formats = st.sampled_from(["date", "uuid", "ipv4"])
    return (
        lengths
        | patterns.map(lambda pattern: {"type": "string", "pattern": pattern, "maxLength": 8})
        | formats.map(lambda name: {"type": "string", "format": name})
    )


def _numbers() -> st.SearchStrategy[Schema]:
    bounds = st.tuples(st.integers(-50, 0), st.integers(1, 500))
    return bounds.map(lambda ends: {"type": "integer", "minimum": ends[0], "maximum": ends[1]})


def _values() -> st.SearchStrategy[Schema]:
    some = st.none() | st.booleans() | st.integers(-9, 99) | NAMES
    return st.lists(some, min_size=1, max_size=3).map(lambda values: {"enum": values}) | some.map(
        lambda value: {"const": value}
    )


def _objects(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    @st.composite
    def build(draw: st.DrawFn) -> Schema:
        properties = draw(st.dictionaries(NAMES, inner, max_size=3))
        required = (
            draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if (properties) else []
        )
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }

    return build()


def _arrays(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.builds(
        lambda items, least, more: {
            "type": "array",
            "items": items,
            "minItems": least,
            "maxItems": least + more,
        },
        inner,
        st.integers(0, 2),
        st.integers(0, 2),
    )


def _unions(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options})


SCHEMAS = st.recursive(
    st.just({"type": "boolean"}) | _strings() | _numbers() | _values(),
    lambda inner: _objects(inner) | _arrays(inner) | _unions(inner),
    max_leaves=6,
)
