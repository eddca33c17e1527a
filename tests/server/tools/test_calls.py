"""Random weights at temperature 1 call what has to be called, with arguments that fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from server.bases import open_base
from server.errors import InvalidRequest
from server.structure import GrammarCompiler, json_shape
from server.structure.shapes import Shape
from server.tools import CallReader, Function, Toolbox, ToolFormat, tool_shape
from server.tools.formats import HERMES, MISTRAL, MISTRAL_NAMED
from tests.support.serving import Driver, make_engine
from tests.support.tiny import write_tiny_base

WEATHER = {
    "type": "object",
    "properties": {"place": {"enum": ["Köln", "Oslo"]}, "days": {"type": "integer", "maximum": 9}},
    "required": ["place", "days"],
    "additionalProperties": False,
}
SWITCH = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
SCHEMAS: dict[str, Any] = {"get_weather": WEATHER, "switch": SWITCH}
FUNCTIONS = tuple(
    Function(name, f"tools.{at}.function.parameters", schema, strict=True)
    for at, (name, schema) in enumerate(SCHEMAS.items())
)
WORDS = ("[TOOL_CALLS]", "[ARGS]")
FORMS = [HERMES, MISTRAL, MISTRAL_NAMED]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base whose tokenizer has Mistral's words as single special tokens."""
    folder = write_tiny_base(tmp_path_factory.mktemp("callers") / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([AddedToken(word, special=True) for word in WORDS], special_tokens=True)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def driver(base: Path) -> Driver:
    return Driver(make_engine(base, kv_memory=4 << 20))


@pytest.fixture(scope="module")
def special(base: Path) -> dict[str, int]:
    tokenizer = open_base(str(base)).tokenizer
    found = {word: tokenizer.special_token_id(word) for word in WORDS}
    assert found == {"[TOOL_CALLS]": 258, "[ARGS]": 259}
    assert tokenizer.special_token_id("a") is None
    return {word: token_id for word, token_id in found.items() if token_id is not None}


@pytest.fixture(scope="module")
def compiler(base: Path) -> Iterator[GrammarCompiler]:
    opened = open_base(str(base))
    compiler = GrammarCompiler(opened.tokenizer, opened.config.vocab_size)
    yield compiler
    compiler.close()


def say(driver: Driver, compiler: GrammarCompiler, shape: Shape, count: int = 6) -> list[str]:
    constraint = compiler.compile(shape)
    params: dict[str, Any] = {
        "temperature": 1.0,
        "ignore_eos": False,
        "max_tokens": 400,
        "skip_special_tokens": False,
    }
    ids = [driver.submit([65, n], constraint=constraint, seed=n, **params) for n in range(count)]
    driver.run()
    assert not driver.errors
    whole = [one for one in ids if driver.deltas[one][-1].finish_reason == "stop"]
    assert len(whole) >= count // 2
    return [driver.text(one) for one in whole]


def calls_in(form: ToolFormat, text: str) -> tuple[str, list[tuple[str, Any]]]:
    reader = CallReader(form)
    pieces = [*reader.push(text), *reader.finish()]
    words = "".join(piece for piece in pieces if isinstance(piece, str))
    calls: list[tuple[str, str]] = []
    for piece in pieces:
        if isinstance(piece, str):
            continue
        if piece.name is not None:
            calls.append((piece.name, ""))
        name, given = calls[piece.index]
        calls[piece.index] = name, given + piece.arguments
    return words, [(name, json.loads(given)) for name, given in calls]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("parallel", [False, True])
def test_required_calls_fit_their_schemas(
    driver: Driver,
    compiler: GrammarCompiler,
    special: dict[str, int],
    form: ToolFormat,
    parallel: bool,
) -> None:
    toolbox = Toolbox(FUNCTIONS, "required", parallel, form)
    for text in say(driver, compiler, tool_shape(toolbox, special)):
        words, calls = calls_in(form, text)
        assert not words.strip()
        assert len(calls) >= 1 if parallel else len(calls) == 1
        for name, given in calls:
            jsonschema.validate(given, SCHEMAS[name])


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_an_answer_follows_its_schema_or_calls(
    driver: Driver, compiler: GrammarCompiler, special: dict[str, int], form: ToolFormat
) -> None:
    toolbox = Toolbox(FUNCTIONS, "auto", True, form)
    answer = json_shape(SWITCH, param="response_format")
    for text in say(driver, compiler, tool_shape(toolbox, special, answer)):
        words, calls = calls_in(form, text)
        assert bool(words.strip()) != bool(calls)
        if not calls:
            jsonschema.validate(json.loads(words), SWITCH)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("marked", [True, False])
def test_strict_functions_are_kept_once_a_call_begins(
    compiler: GrammarCompiler, special: dict[str, int], form: ToolFormat, marked: bool
) -> None:
    """By hand: random weights seldom come to call by themselves."""
    words = special if marked else {}
    shape = tool_shape(Toolbox(FUNCTIONS, "auto", True, form), words)
    head = {"hermes": '<tool_call>\n{"name": "', "mistral": '[TOOL_CALLS] [{"name": "'}
    beginning = f"Well. {head.get(form.name, '[TOOL_CALLS]')}"
    matcher = compiler.compile(shape).start()
    tokenizer = open_base_tokens(beginning, words)
    for token_id in tokenizer:
        assert matcher.mask()[token_id // 32] >> (token_id % 32) & 1
        matcher.take(token_id)
    mask = matcher.mask()
    allowed = {token for token in range(256) if mask[token // 32] >> (token % 32) & 1}
    assert {chr(byte_of(token)) for token in allowed} == {"g", "s"}  # get_weather, switch


def open_base_tokens(text: str, special: dict[str, int]) -> list[int]:
    """Byte by byte, the special words as single tokens."""
    ids: list[int] = []
    while text:
        word = next((word for word in special if text.startswith(word)), None)
        ids.append(_ALPHABET.index(text[0].encode()[0]) if word is None else special[word])
        text = text[1 if word is None else len(word) :]
    return ids


def byte_of(token_id: int) -> int:
    return _ALPHABET[token_id]


def _bytes_in_order() -> list[int]:
    """Which byte each token of the tests' tokenizer is."""
    from tests.support.bytes import byte_tokenizer

    tokenizer = byte_tokenizer()
    decoded = {tokenizer.encode(chr(code)).ids[0]: code for code in range(128)}
    return [decoded.get(token_id, 255) for token_id in range(256)]


_ALPHABET = _bytes_in_order()


def test_a_schema_that_is_wrong_is_named(compiler: GrammarCompiler) -> None:
    wrong = Function("f", "tools.0.function.parameters", {"properties": {"a": {"type": "int"}}})
    with pytest.raises(InvalidRequest) as refusal:
        tool_shape(Toolbox((wrong,), "required", True, HERMES), {})
    assert refusal.value.param == "tools.0.function.parameters.properties.a.type"
    hard = Function("f", "tools.0.function.parameters", {"items": {"not": {}}}, strict=True)
    shape = tool_shape(Toolbox((*FUNCTIONS, hard), "required", True, HERMES), {})
    with pytest.raises(InvalidRequest) as refusal:
        compiler.compile(shape)
    assert refusal.value.param == "tools.0.function.parameters.items"
