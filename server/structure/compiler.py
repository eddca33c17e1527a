"""From a shape to the constraint that sequences follow, within bounds of time and memory."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from registry import schemas
from server.engine.constraint import Mask
from server.errors import InvalidRequest, Unavailable
from server.structure.grammar import Grammar
from server.structure.shapes import Shape, json_options

COMPILE_TIMEOUT = 10.0  # seconds, waiting for a turn included
COMPILERS = 2  # threads
MASKERS = 4  # threads; a mask takes 0.01 to 20 ms, and Rust gives the interpreter's lock up

# What one grammar may cost, in llguidance's units: the first two are about 20 ms and 15 ms of work,
# a state of the lexer is 1 to 2 kB.
LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,
    step_max_items=50_000,
    max_lexer_states=20_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)


class StructureTokenizer(Protocol):
    """The base's tokenizer, as far as a grammar needs it."""

    def serialized(self) -> str:
        """The text of a tokenizer.json, added tokens included."""
        ...

    @property
    def eos_token_ids(self) -> frozenset[int]: ...


class GrammarCompiler:
    """Makes grammars for one base, and owns the threads that work on them until it is closed."""

    def __init__(self, tokenizer: StructureTokenizer, vocab_size: int) -> None:
        """vocab_size: columns of the model's logits, which may be more than the tokenizer has."""
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._compilers: Executor = ThreadPoolExecutor(COMPILERS, thread_name_prefix="grammar")
        self._maskers: Executor = ThreadPoolExecutor(MASKERS, thread_name_prefix="mask")

    def compile(self, shape: Shape) -> Grammar:
        """The grammar of `shape`. Takes milliseconds, the first a second: keep it off the loop.

        Raises InvalidRequest naming the place that no grammar can be made of, or that costs too
        much.
        """
        try:
            return self._compilers.submit(self._compile, shape).result(COMPILE_TIMEOUT)
        except TookTooLong:
            raise InvalidRequest(
                f"'{shape.param}': no grammar was ready within {COMPILE_TIMEOUT:.0f} seconds.",
                param=shape.param,
            ) from None
        except RuntimeError as closed:
            raise Unavailable("The server is shutting down.") from closed

    def close(self) -> None:
        """End the threads. Sequences that still follow a grammar must have ended before."""
        for threads in (self._compilers, self._maskers):
            threads.shutdown(wait=True, cancel_futures=True)

    @cached_property
    def _vocabulary(self) -> LLTokenizer:
        return LLTokenizer(
            self._tokenizer.serialized(),
            n_vocab=self._vocab_size,
            eos_token=sorted(self._tokenizer.eos_token_ids),
        )

    def _compile(self, shape: Shape) -> Grammar:
        matcher = LLMatcher(self._vocabulary, shape.grammar, log_level=0, limits=LIMITS)
        if matcher.is_error():
            raise self._refusal(shape, matcher.get_error())
        first = np.frombuffer(matcher.compute_bitmask(), dtype=np.int32)[: self._num_words]
        error = matcher.get_error() if matcher.is_error() else self._try(matcher, first)
        if error:
            raise self._refusal(shape, error)
        return Grammar(matcher, first, self._maskers)

    @property
    def _num_words(self) -> int:
        """Of a mask; Rust's may be one longer."""
        return -(-self._vocab_size // 32)

    def _try(self, matcher: LLMatcher, first: Mask) -> str:
        """What goes wrong on the first token: that is when large expressions show their cost."""
        allowed = np.flatnonzero(np.unpackbits(first.view(np.uint8), bitorder="little"))
        if not len(allowed):
            return "no text at all fits"
        trial = matcher.deep_copy()
        trial.consume_token(int(allowed[0]))
        trial.compute_bitmask()
        return trial.get_error() if trial.is_error() else ""

    def _refusal(self, shape: Shape, error: str) -> InvalidRequest:
        """Name the innermost part of a schema that fails by itself."""
        fault, param = schemas.Fault((), _first_line(error)), shape.param
        for part in shape.parts:
            inner = self._innermost_fault(part.schema, strict=part.strict)
            if inner is not None:
                fault, param = inner, part.param
                break
        place = fault.below(param)
        return InvalidRequest(f"'{place}': {fault.reason}.", param=place)

    def _innermost_fault(self, schema: Any, *, strict: bool) -> schemas.Fault | None:
        found = None
        for path, part in schemas.subschemas(schema):
            if found is not None and path[: len(found.path)] != found.path:
                continue  # beside what failed, not within
            error = self._complaint(_with_definitions(part, schema), strict=strict)
            if error:
                found = schemas.Fault(path, error)
        return found

    def _complaint(self, schema: Any, *, strict: bool) -> str:
        if not isinstance(schema, dict):
            return ""  # true and false
        grammar = LLMatcher.grammar_from_json_schema(schema, overrides=json_options(strict=strict))
        has_failed, messages = LLMatcher.validate_grammar_with_warnings(
            grammar, self._vocabulary, limits=LIMITS
        )
        return _first_line(messages[0]) if has_failed else ""


def _with_definitions(part: Any, root: Any) -> Any:
    """A subschema with what its references point at, as far as that is named."""
    if not isinstance(part, dict) or not isinstance(root, dict):
        return part
    named = {key: root[key] for key in ("$defs", "definitions") if key in root}
    return {**named, **part}


def _first_line(error: str) -> str:
    """llguidance's own words, without the state that it adds for its developers."""
    lines = [line.strip() for line in error.partition("<state>")[0].splitlines()]
    return "; ".join(line for line in lines if line and line != "^")[:300].rstrip(". ")
