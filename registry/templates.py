"""The one chat-template renderer that training and serving share.

Output is character-identical to transformers' `apply_chat_template(tokenize=False)`: the same
jinja2 sandbox, block trimming, extensions, globals and filters, so that a template renders at
serving exactly as it did at training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from .errors import TemplateFailed

# A message's reasoning goes by several names; templates read the first, gpt-oss's the second.
_REASONING = ("reasoning_content", "thinking", "reasoning")


def render_chat(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool,
    bos_token: str | None,
    eos_token: str | None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> str:
    """Render `messages` (dicts with `role` and `content`) to the prompt text.

    `extra` holds further names a template may read, such as `unk_token` or `documents`.
    Raises `TemplateFailed` with the reason, also when the template itself calls
    `raise_exception`.
    """
    names: dict[str, Any] = {"documents": None, **dict(extra or {})}
    # A tokenizer without such a token passes no name at all, and `is defined` can tell.
    tokens = {"bos_token": bos_token, "eos_token": eos_token}
    names.update({name: token for name, token in tokens.items() if token is not None})
    try:
        plain = [_with_reasoning(_plain(message)) for message in messages]
        return _compile(template).render(
            messages=plain,
            tools=None if tools is None else _plain(list(tools)),
            add_generation_prompt=add_generation_prompt,
            **_plain(names),
        )
    except TemplateFailed:
        raise
    except Exception as failure:  # a template is a program: it can fail in any way it likes
        reason = str(failure) or type(failure).__name__
        raise TemplateFailed(f"the chat template refused these messages: {reason}") from failure


def check_template(template: str) -> None:
    """Raise `TemplateFailed` with the line if the template does not compile."""
    _compile(template)


def depends_on_the_day(template: str) -> bool:
    """Whether a template may render the same conversation otherwise tomorrow."""
    return "strftime_now" in template


@lru_cache(maxsize=64)
def _compile(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(
        raise_exception=_raise_exception,
        strftime_now=_strftime_now,
        dict=_TemplateDict(),
        namespace=_TemplateNamespace,
    )
    try:
        return environment.from_string(template)
    except jinja2.TemplateSyntaxError as failure:
        raise TemplateFailed(
            f"the chat template does not compile: line {failure.lineno}: {failure.message}",
            param="chat_template",
        ) from None
    except RecursionError:
        raise TemplateFailed(
            "the chat template does not compile: nested too deeply", param="chat_template"
        ) from None


def _plain(value: Any) -> Any:
    """Rebuild `value` from exact JSON types: a template must not reach an object's methods."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    return f"<{type(value).__name__}>"  # templates only ask whether such values are there


def _with_reasoning(message: Any) -> Any:
    if not isinstance(message, dict):
        raise TemplateFailed("a message must be an object with 'role' and 'content'")
    found = next((message[key] for key in _REASONING if message.get(key) is not None), None)
    if found is None:
        return message
    return {"thinking": found, **message, "reasoning_content": found}


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as a model was trained to read it: jinja2's own filter would escape HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


class _TemplateDict:
    """`dict(…)` for templates, without the attributes of the real class."""

    def __call__(self, *items: Any, **named: Any) -> dict[Any, Any]:
        return dict(*items, **named)

    def fromkeys(self, keys: Any, value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


class _TemplateNamespace(Namespace):
    """`namespace(…)` for templates, without names that reach into Python."""

    def __init__(*items: Any, **named: Any) -> None:
        self, *rest = items  # positional only, so that `namespace(self=…)` works
        values = dict(*rest, **named)
        for name in values:
            _check_attribute(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_attribute(name)
        super().__setitem__(name, value)


def _check_attribute(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(
            f"a namespace attribute may not start with '_': {name}"
        )


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks the answer for training; it renders as is."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_render_body")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _render_body(self, caller: Callable[[], str]) -> str:
        return caller()
