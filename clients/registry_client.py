"""The registry's calls, sync and async: look, compare, and move aliases.

Pushing and pulling files needs the `registry` package: `hatstand registry push`, or
`registry.remote.RemoteRegistry`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from . import calls
from .calls import Call, T
from .catalog import AdapterPage, AliasMove, Version


class Do(Protocol):
    def __call__(self, call: Call[T], /) -> T: ...


class AsyncDo(Protocol):
    async def __call__(self, call: Call[T], /) -> T: ...


class RegistryClient:
    """A registry below a server's `root`."""

    def __init__(self, do: Do, *, root: str) -> None:
        self._do = do
        self._root = root

    def adapters(
        self,
        *,
        text: str = "",
        tags: Sequence[str] = (),
        metrics: Sequence[str] = (),
        base: str = "",
        after: str = "",
    ) -> AdapterPage:
        """A page of adapters; a metric reads `exact_match>=0.9`."""
        return self._do(
            calls.adapters(
                self._root, text=text, tags=tags, metrics=metrics, base=base, after=after
            )
        )

    def versions(self, name: str) -> list[Version]:
        """All versions, oldest first."""
        return self._do(calls.versions(self._root, name))

    def version(self, reference: str) -> Version:
        """What `sql`, `sql@canary`, `sql@7` or `sql@sha256:…` means now."""
        return self._do(calls.version(self._root, reference))

    def set_alias(
        self, name: str, alias: str, target: str, *, expected: str | None, why: str = ""
    ) -> Version:
        """Point an alias at `target` ("7", a digest), if it points at the digest `expected` now.

        `expected` "" means that there is none yet, None wherever it points. Raises Conflict.
        """
        return self._do(
            calls.set_alias(self._root, name, alias, target, expected=expected, why=why)
        )

    def roll_back(
        self, name: str, alias: str, *, expected: str | None = None, why: str = ""
    ) -> Version:
        """Back to where the alias pointed before."""
        return self._do(calls.roll_back(self._root, name, alias, expected=expected, why=why))

    def alias_history(self, name: str, alias: str) -> list[AliasMove]:
        """Every move, oldest first."""
        return self._do(calls.alias_history(self._root, name, alias))

    def diff(self, name: str, before: str, after: str) -> Mapping[str, Any]:
        """What changed between two versions: documents by key, weights by layer."""
        return self._do(calls.diff(self._root, name, before, after))


class AsyncRegistryClient:
    """The same, to be awaited."""

    def __init__(self, do: AsyncDo, *, root: str) -> None:
        self._do = do
        self._root = root

    async def adapters(
        self,
        *,
        text: str = "",
        tags: Sequence[str] = (),
        metrics: Sequence[str] = (),
        base: str = "",
        after: str = "",
    ) -> AdapterPage:
        """A page of adapters; a metric reads `exact_match>=0.9`."""
        return await self._do(
            calls.adapters(
                self._root, text=text, tags=tags, metrics=metrics, base=base, after=after
            )
        )

    async def versions(self, name: str) -> list[Version]:
        """All versions, oldest first."""
        return await self._do(calls.versions(self._root, name))

    async def version(self, reference: str) -> Version:
        """What `sql`, `sql@canary`, `sql@7` or `sql@sha256:…` means now."""
        return await self._do(calls.version(self._root, reference))

    async def set_alias(
        self, name: str, alias: str, target: str, *, expected: str | None, why: str = ""
    ) -> Version:
        """Point an alias at `target`, if it points at the digest `expected` now."""
        return await self._do(
            calls.set_alias(self._root, name, alias, target, expected=expected, why=why)
        )

    async def roll_back(
        self, name: str, alias: str, *, expected: str | None = None, why: str = ""
    ) -> Version:
        """Back to where the alias pointed before."""
        return await self._do(calls.roll_back(self._root, name, alias, expected=expected, why=why))

    async def alias_history(self, name: str, alias: str) -> list[AliasMove]:
        """Every move, oldest first."""
        return await self._do(calls.alias_history(self._root, name, alias))

    async def diff(self, name: str, before: str, after: str) -> Mapping[str, Any]:
        """What changed between two versions: documents by key, weights by layer."""
        return await self._do(calls.diff(self._root, name, before, after))
