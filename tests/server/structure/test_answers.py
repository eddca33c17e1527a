"""Random weights at temperature 1 say what a grammar asks for, on every path through the engine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from server.engine.compiled_runner import CompiledRunner
from server.engine.device_executor import DeviceExecutor
from server.engine.runner import MistralRunner
from server.kernels.cpu.support import is_supported
from server.structure import GrammarCompiler, Shape, choice_shape, json_shape, regex_shape
from server.structure.shapes import grammar_shape
from tests.support.schemas import SCHEMAS
from tests.support.serving import Driver, make_engine

PATHS: dict[str, dict[str, Any]] = {
    "plain": {},
    "compiled": {"dtype": torch.bfloat16},
    "device": {"device": "cuda"} if torch.cuda.is_available() else {"fused": True},
}


@pytest.fixture(scope="module", params=PATHS)
def driver(shaped_base: Path, request: pytest.FixtureRequest) -> Driver:
    if request.param == "compiled" and not is_supported():
        pytest.skip("needs AVX-512 with bf16")
    driver = Driver(make_engine(shaped_base, kv_memory=4 << 20, **PATHS[request.param]))
    executor: Any = driver.engine._executor
    runs = executor if request.param == "device" else executor.runner
    kinds = {"plain": MistralRunner, "compiled": CompiledRunner, "device": DeviceExecutor}
    assert type(runs) is kinds[request.param]
    return driver


def say(
    driver: Driver, compiler: GrammarCompiler, *shapes: Shape, **params: Any
) -> list[tuple[str, str | None]]:
    """Texts and finish reasons of one sequence for each shape, side by side."""
    chosen = {"temperature": 1.0, "ignore_eos": False, "max_tokens": 300, **params}
    ids = [
        driver.submit([65, 66, at], constraint=compiler.compile(shape), **chosen)
        for at, shape in enumerate(shapes)
    ]
    driver.run()
    driver.engine.check_idle()
    assert not driver.errors
    return [(driver.text(one), driver.deltas[one][-1].finish_reason) for one in ids]


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # what fails is small; making it smaller takes minutes
)
@given(st.lists(SCHEMAS, min_size=3, max_size=3), st.integers(0, 2**31))
def test_every_schema_is_kept(
    driver: Driver, compiler: GrammarCompiler, schemas: list[dict[str, Any]], seed: int
) -> None:
    shapes = [json_shape(schema, param="schema") for schema in schemas]
    said = say(driver, compiler, *shapes, seed=seed, max_tokens=400)
    whole = [
        (schema, text)
        for schema, (text, reason) in zip(schemas, said, strict=True)
        if reason == "stop"
    ]
    assume(whole)  # rarely, all three are too long for the tiny base
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    for schema, text in whole:
        jsonschema.validate(json.loads(text), schema, format_checker=checker)


def test_greedy_answers_are_kept_too(driver: Driver, compiler: GrammarCompiler) -> None:
    shape = choice_shape(["yes", "no", "maybe so"], param="choice")
    [(text, reason)] = say(driver, compiler, shape, temperature=0.0)
    assert text in ("yes", "no", "maybe so")
    assert reason == "stop"


def test_regular_expressions_and_grammars(driver: Driver, compiler: GrammarCompiler) -> None:
    pattern = r"(\+49|0)[1-9][0-9]{2,5}-[a-f]{3}"
    lark = 'start: "<" pair ("," pair)* ">"\npair: /[a-z]{1,3}/ "=" /[0-9]{1,2}/'
    gbnf = 'root ::= "sum: " [0-9]+ ("+" [0-9]+)? "."'
    shapes = [
        regex_shape(pattern, param="regex"),
        grammar_shape(lark, param="grammar"),
        grammar_shape(gbnf, param="grammar"),
    ]
    expected = [pattern, r"<[a-z]{1,3}=\d{1,2}(,[a-z]{1,3}=\d{1,2})*>", r"sum: \d+(\+\d+)?\."]
    for (text, reason), form in zip(say(driver, compiler, *shapes), expected, strict=True):
        assert reason == "length" or re.fullmatch(form, text), (text, reason)


def test_what_is_cut_says_so(driver: Driver, compiler: GrammarCompiler) -> None:
    shape = json_shape({"type": "string", "minLength": 40}, param="schema")
    [(text, reason)] = say(driver, compiler, shape, max_tokens=10)
    assert reason == "length"
    assert text.startswith('"')


def test_a_minimum_beyond_the_grammar_does_not_break_it(
    driver: Driver, compiler: GrammarCompiler
) -> None:
    shapes = [regex_shape("abc", param="regex"), regex_shape("x{2,9}", param="regex")]
    short, long = say(driver, compiler, *shapes, min_tokens=6)
    assert short == ("abc", "stop")
    assert len(long[0]) >= 6
    assert say(driver, compiler, shapes[0], ignore_eos=True) == [("abc", "stop")]


def test_other_features_go_with_it(driver: Driver, compiler: GrammarCompiler) -> None:
    shape = json_shape({"enum": ["aaaa", "aaab", "bbbb"]}, param="schema")
    asked: dict[str, Any] = {"logit_bias": {1: 50.0}, "repetition_penalty": 1.5, "logprobs": 2}
    [(text, reason)] = say(driver, compiler, shape, **asked)
    assert json.loads(text) in ("aaaa", "aaab", "bbbb")
    assert reason == "stop"


def test_neighbours_without_a_grammar_say_what_they_say_alone(
    driver: Driver, compiler: GrammarCompiler
) -> None:
    prompts = [[70 + n, 71, 72] for n in range(3)]

    def speak(shape: Shape | None) -> list[list[int]]:
        ids = [driver.submit(prompt, max_tokens=16) for prompt in prompts]
        drawn = driver.submit([1, 2, 3], max_tokens=16, temperature=1.0, seed=5)
        if shape is not None:
            for at in range(3):
                driver.submit(
                    [9, at], constraint=compiler.compile(shape), max_tokens=40, temperature=1.0
                )
        driver.run()
        return [driver.tokens(one) for one in (*ids, drawn)]

    shape = json_shape({"type": "array", "items": {"type": "integer"}}, param="schema")
    assert speak(shape) == speak(None)


def test_a_seed_says_the_same_again(driver: Driver, compiler: GrammarCompiler) -> None:
    shape = regex_shape("[a-z]{24}", param="regex")
    first, second = (say(driver, compiler, shape, shape, seed=11) for _ in range(2))
    assert first == second
    assert re.fullmatch("[a-z]{24}", first[0][0])
