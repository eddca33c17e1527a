"""Answers of a given shape: grammars that say which token may come next."""

from .compiler import GrammarCompiler, StructureTokenizer
from .shapes import Shape, choice_shape, grammar_shape, json_shape, regex_shape

__all__ = [
    "GrammarCompiler",
    "Shape",
    "StructureTokenizer",
    "choice_shape",
    "grammar_shape",
    "json_shape",
    "regex_shape",
]
