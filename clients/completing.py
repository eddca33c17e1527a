"""What a shell offers after TAB to `hatstand`; what `registry` does, it says itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import typer

_BEGAN = "_HATSTAND_WORD_BEGAN"  # as in registry.commands.completing
_TYPED = "_TYPER_COMPLETE_ARGS"  # the line so far, of zsh and fish
Completer = Callable[[typer.Context, str], list[str]]


def rejoin_words(variable: str) -> None:
    """bash's words as they were typed, where the registry is installed, which knows how."""
    with contextlib.suppress(ImportError):
        from registry.commands.completing import rejoin_words as rejoin

        rejoin(variable)


def registry_is_asked() -> bool:
    """Whether a shell completes `hatstand registry …`; then it is made to ask `registry` itself."""
    asked = os.environ.get("_HATSTAND_COMPLETE")
    if asked is None:
        return False
    if asked == "complete_bash":
        words, index = os.environ["COMP_WORDS"].split("\n"), int(os.environ["COMP_CWORD"])
        passed_on = {"COMP_WORDS": "\n".join(words[1:]), "COMP_CWORD": str(index - 1)}
        is_asked = index > 1 and words[1] == "registry"
    else:
        _, _, rest = os.environ.get(_TYPED, "").partition(" ")
        passed_on = {_TYPED: rest}
        is_asked = rest.startswith("registry ")
    if is_asked:
        os.environ |= {**passed_on, "_REGISTRY_COMPLETE": asked}
    return is_asked


def from_registry(kind: str) -> Completer:
    """A completer of `registry.commands.completing`; without the registry nothing is offered."""

    def offered(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            from registry.commands import completing
        except ImportError:
            return []
        found: list[str] = getattr(completing, kind)(ctx, incomplete)
        return found

    return offered


def served_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """What the server at `--url` lists, if it answers within a second."""
    from .client import Hatstand
    from .errors import HatstandError

    url, key = ctx.params.get("url") or "", ctx.params.get("api_key")
    try:
        with Hatstand(url, api_key=key, timeout=1.0, retries=0) as client:
            names = [model.id for model in client.models()]
    except HatstandError:
        return []
    began = os.environ.get(_BEGAN, "")
    return [name.removeprefix(began) for name in names if name.startswith(began + incomplete)]
