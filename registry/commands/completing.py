"""What a shell offers after TAB: adapters, versions and aliases, as the registry has them.

Names come from the registry that the command line names, else from the usual one; where that does
not answer, nothing is offered and nothing is said.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import typer

from .opening import open_registry

if TYPE_CHECKING:
    from registry.opening import AnyRegistry

BEGAN = "_HATSTAND_WORD_BEGAN"  # the variable for what bash holds to be words before this one
_BREAKS = "@:"  # it ends a word there, which is in the middle of "sql@prod"


def adapter_names(context: typer.Context, incomplete: str) -> list[str]:
    """Adapters: "sql"."""
    return _offered(_names(context), incomplete)


def references(context: typer.Context, incomplete: str) -> list[str]:
    """Adapters, and after the "@" what may follow: "sql@prod", "sql@7"."""
    name, at, _ = (os.environ.get(BEGAN, "") + incomplete).partition("@")
    if not at:
        return _offered(_names(context), incomplete)
    return _offered((f"{name}@{target}" for target in _targets(context, name)), incomplete)


def aliases(context: typer.Context, incomplete: str) -> list[str]:
    """The aliases of the adapter that was named before."""
    return _offered(_aliases(context, context.params.get("name")), incomplete)


def targets(context: typer.Context, incomplete: str) -> list[str]:
    """Versions and aliases of the adapter that was named before."""
    return _offered(_targets(context, context.params.get("name")), incomplete)


def join_words(words: Sequence[str], index: int) -> tuple[list[str], int]:
    """bash's words and the current one's place, with "sql", "@", "prod" as one word again."""
    joined: list[str] = []
    place = 0
    for number, word in enumerate(words):
        is_break = word != "" and set(word) <= set(_BREAKS)
        if number > 1 and (is_break or joined[-1].endswith(tuple(_BREAKS))):
            joined[-1] += word
        else:
            joined.append(word)
        if number == index:
            place = len(joined) - 1
    return joined, place


def rejoin_words(variable: str) -> None:
    """Where bash asks for completions by that variable, give it whole words.

    Of the current one readline replaces what comes after the last ":", but from the last "@" on;
    what comes before that is kept aside.
    """
    if os.environ.get(variable) != "complete_bash":
        return
    words = os.environ["COMP_WORDS"].split("\n")
    joined, place = join_words(words, int(os.environ["COMP_CWORD"]))
    cut = max(joined[place].rfind("@"), joined[place].rfind(":") + 1, 0)
    os.environ[BEGAN] = joined[place][:cut]
    joined[place] = joined[place][cut:]
    os.environ |= {"COMP_WORDS": "\n".join(joined), "COMP_CWORD": str(place)}


def _offered(words: Iterable[str], incomplete: str) -> list[str]:
    began = os.environ.get(BEGAN, "")
    found = sorted(word for word in words if word.startswith(began + incomplete))
    return [word.removeprefix(began) for word in found]


def _names(context: typer.Context) -> list[str]:
    return _found(context, lambda registry: [each.name for each in registry.adapters()])


def _aliases(context: typer.Context, name: str | None) -> list[str]:
    return [] if name is None else _found(context, lambda registry: list(registry.aliases(name)))


def _targets(context: typer.Context, name: str | None) -> list[str]:
    if name is None:
        return []
    return _found(
        context,
        lambda registry: [
            *registry.aliases(name),
            *(str(version.number) for version in registry.versions(name)),
        ],
    )


def _found(context: typer.Context, find: Callable[[AnyRegistry], list[str]]) -> list[str]:
    try:
        return find(open_registry(context.params.get("registry")))
    except Exception:  # whatever is wrong, a shell at its prompt is not the place to say it
        return []
