"""What the key of the running request may name, and whose prefixes and files are its own."""

from __future__ import annotations

from contextvars import ContextVar
from fnmatch import fnmatchcase

from server.engine.composition import members

EVERYTHING = ("*",)

# Of the request, and of the threads that read the catalog for it; whatever else runs may name all.
_patterns: ContextVar[tuple[str, ...]] = ContextVar("patterns", default=EVERYTHING)
_prefix_scope: ContextVar[str] = ContextVar("prefix_scope", default="")


def permit(patterns: tuple[str, ...], prefix_scope: str = "") -> None:
    """Let the running request name the base and adapters that match one of these globs alone, and
    share cached prefixes with requests of the same scope alone.
    """
    _patterns.set(patterns)
    _prefix_scope.set(prefix_scope)


def prefix_scope() -> str:
    """What of `GenerationRequest` says who shares its cached prefixes."""
    return _prefix_scope.get()


def owner() -> str:
    """Whose the files and fine-tuning jobs of the running request are, and which it sees: those of
    all keys with its patterns. "": it may name everything, and sees all of them.
    """
    patterns = _patterns.get()
    return "" if "*" in patterns else "+".join(sorted(set(patterns)))


def may_name(model: str) -> bool:
    """Whether it may name this base or adapter, in whatever version."""
    name = model.partition("@")[0]
    return any(fnmatchcase(name, pattern) for pattern in _patterns.get())


def may_see(label: str) -> bool:
    """Whether it may name every adapter in what a label stands for: the base, a version, a sum."""
    return all(map(may_name, members(label)))
