"""Where receipts are replayed: a host that another package offers.

The registry knows no engine. A package that has one offers it in the entry-point group
`hatstand.hosts`: a callable that takes a registry and a base's name or folder, and gives a context
with an `AnsweringHost`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, cast

from .errors import MissingExtra
from .replay import Host
from .versions import Version

if TYPE_CHECKING:
    from .opening import AnyRegistry

GROUP = "hatstand.hosts"


class AnsweringHost(Host, Protocol):
    """A host that many questions may be put to at once: what evaluations run on."""

    def answers(
        self,
        version: Version | None,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int,
        stop: Sequence[str],
    ) -> list[str]:
        """The greedy answer to each prompt, of a version or (None) the bare base."""
        ...


class OpensHost(Protocol):
    """What an entry point of the group is."""

    def __call__(
        self, registry: AnyRegistry, base: str
    ) -> AbstractContextManager[AnsweringHost]: ...


def open_host(
    registry: AnyRegistry, base: str, *, what: str = "replaying a receipt on its base"
) -> AbstractContextManager[AnsweringHost]:
    """The first host that is installed, over that base. Raises `MissingExtra` without one.

    `what` is what a host is wanted for, as the error says it.
    """
    for entry_point in entry_points(group=GROUP):
        try:
            opener = cast(OpensHost, entry_point.load())
        except ModuleNotFoundError:
            raise MissingExtra(what, "server") from None
        return opener(registry, base)
    raise MissingExtra(what, "server")
