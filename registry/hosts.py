"""Where receipts are replayed: a host that another package offers.

The registry knows no engine. A package that has one offers it in the entry-point group
`hatstand.hosts`: a callable that takes a registry and a base's name or folder, and gives a context
with a `registry.replay.Host`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, cast

from .errors import MissingExtra
from .replay import Host

if TYPE_CHECKING:
    from .opening import AnyRegistry

GROUP = "hatstand.hosts"


class OpensHost(Protocol):
    """What an entry point of the group is."""

    def __call__(self, registry: AnyRegistry, base: str) -> AbstractContextManager[Host]: ...


def open_host(registry: AnyRegistry, base: str) -> AbstractContextManager[Host]:
    """The first host that is installed, over that base. Raises `MissingExtra` without one."""
    what = "replaying a receipt on its base"
    for entry_point in entry_points(group=GROUP):
        try:
            opener = cast(OpensHost, entry_point.load())
        except ModuleNotFoundError:
            raise MissingExtra(what, "server") from None
        return opener(registry, base)
    raise MissingExtra(what, "server")
