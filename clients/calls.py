"""Every call of the API as a value: what to send, and what to make of the reply."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from . import messages
from .catalog import (
    AdapterPage,
    AliasMove,
    Version,
    parse_history,
    parse_page,
    parse_version,
    parse_versions,
)
from .embeddings import EmbeddingOptions, Embeddings, embedding_request, parse_embeddings
from .messages import Answer, Conversation, Model, Request
from .options import ChatOptions, CompletionOptions

T = TypeVar("T")
Headers = Mapping[str, str]


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how its reply reads: `parse` gets the body (JSON, or text) and the headers."""

    request: Request
    parse: Callable[[Any, Headers], T]


# ---- inference ----


def chat(model: str, conversation: Conversation, options: ChatOptions) -> Call[Answer]:
    request = messages.chat_request(model, conversation, options)
    return Call(request, messages.parse_answer)


def complete(model: str, prompt: str | Sequence[int], options: CompletionOptions) -> Call[Answer]:
    return Call(messages.completion_request(model, prompt, options), messages.parse_answer)


def embed(model: str, texts: str | Sequence[str], options: EmbeddingOptions) -> Call[Embeddings]:
    return Call(embedding_request(model, texts, options), parse_embeddings)


def models() -> Call[list[Model]]:
    return Call(Request("GET", "/v1/models"), lambda body, _: messages.parse_models(body))


def model(name: str) -> Call[Model]:
    path = f"/v1/models/{quote(name, safe='@:')}"
    return Call(Request("GET", path), lambda body, _: messages.parse_model(body))


# ---- administration ----


def load(name: str, *, pin: bool) -> Call[str]:
    return Call(messages.load_request(name, pin=pin), _text)


def unload(name: str) -> Call[str]:
    return Call(messages.unload_request(name), _text)


def state() -> Call[Mapping[str, Any]]:
    return Call(Request("GET", "/debug/state"), lambda body, _: body)


# ---- registry: below `root`, "" for one that stands alone ----


def adapters(
    root: str, *, text: str, tags: Sequence[str], metrics: Sequence[str], base: str, after: str
) -> Call[AdapterPage]:
    query: list[tuple[str, str]] = [("text", text), ("base", base), ("after", after)]
    query += [("tag", tag) for tag in tags] + [("metric", metric) for metric in metrics]
    asked = "&".join(f"{key}={quote(value, safe='')}" for key, value in query if value)
    path = f"{root}/adapters" + (f"?{asked}" if asked else "")
    return Call(Request("GET", path), lambda body, _: parse_page(body))


def versions(root: str, name: str) -> Call[list[Version]]:
    path = f"{_adapter(root, name)}/versions"
    return Call(Request("GET", path), lambda body, _: parse_versions(body))


def version(root: str, reference: str) -> Call[Version]:
    """By `sql` (the alias `prod`, else the newest), `sql@canary`, `sql@7` or `sql@sha256:…`."""
    name, _, target = reference.partition("@")
    if not target:
        return Call(Request("GET", _adapter(root, name)), _meaning)
    path = f"{_adapter(root, name)}/versions/{quote(target, safe='')}"
    return Call(Request("GET", path), lambda body, _: parse_version(body))


def set_alias(
    root: str, name: str, alias: str, target: str, *, expected: str | None, why: str
) -> Call[Version]:
    """`expected` is the digest that it points at now; "" means that there is none yet, None any."""
    headers = {"if-none-match": "*"} if expected == "" else {"if-match": _etag(expected)}
    body = {"target": target, "why": why}
    request = Request("PUT", _alias(root, name, alias), body, headers)
    return Call(request, lambda found, _: parse_version(found))


def roll_back(root: str, name: str, alias: str, *, expected: str | None, why: str) -> Call[Version]:
    path = f"{_alias(root, name, alias)}/rollback"
    request = Request("POST", path, {"why": why}, {"if-match": _etag(expected)})
    return Call(request, lambda body, _: parse_version(body))


def alias_history(root: str, name: str, alias: str) -> Call[list[AliasMove]]:
    path = f"{_alias(root, name, alias)}/history"
    return Call(Request("GET", path), lambda body, _: parse_history(body))


def diff(root: str, name: str, before: str, after: str) -> Call[Mapping[str, Any]]:
    path = f"{_adapter(root, name)}/versions/{quote(after, safe='')}/diff"
    asked = f"{path}?against={quote(before, safe='')}"
    return Call(Request("GET", asked), lambda body, _: body)


def _meaning(body: Mapping[str, Any], _: Headers) -> Version:
    """What a bare name means, from an adapter's document."""
    return parse_version(body["aliases"].get("prod", body["newest"]))


def _adapter(root: str, name: str) -> str:
    return f"{root}/adapters/{quote(name, safe='')}"


def _alias(root: str, name: str, alias: str) -> str:
    return f"{_adapter(root, name)}/aliases/{quote(alias, safe='')}"


def _etag(expected: str | None) -> str:
    return "*" if expected is None else f'"{expected}"'


def _text(body: Any, _: Headers) -> str:
    return str(body)
