"""Replaying receipts from the command line, on a base that is on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from registry import Version
    from registry.opening import AnyRegistry
    from registry.replay import Host, Proof

HostOption = Annotated[
    str | None,
    typer.Option(
        "--host-base",
        metavar="NAME|DIR",
        help="Replay on this base, else on the one that the lock names.",
    ),
]


@dataclass(frozen=True)
class Replayed:
    """How the replay of one version's receipt came out."""

    proof: Proof | None
    problem: str | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        from dataclasses import asdict

        proof = None if self.proof is None else asdict(self.proof)
        return {"is_kept": self.problem is None, "problem": self.problem, "proof": proof}

    def __str__(self) -> str:
        if self.proof is None:
            return self.problem or ""
        ties = self.proof.num_near_ties
        return (
            f"{self.proof.num_probes} probes, {self.proof.num_tokens} tokens"
            f"{f', {ties} near ties' if ties else ''}, drift {self.proof.drift:.2g}"
        )


def prove(registry: AnyRegistry, version: Version, host_base: str | None) -> Proof:
    """Replay one receipt; raises what speaks against the version."""
    with Hosts(registry, host_base).opened() as hosts:
        return hosts.replay(version)


def replay_all(
    registry: AnyRegistry, versions: Iterable[Version], host_base: str | None
) -> Mapping[str, Replayed]:
    """Ref → outcome; each base is loaded once. Raises `MissingExtra` without an engine."""
    from registry.errors import MissingExtra, RegistryError

    outcomes: dict[str, Replayed] = {}
    with Hosts(registry, host_base).opened() as hosts:
        for version in versions:
            try:
                outcomes[version.ref] = Replayed(hosts.replay(version), None)
            except MissingExtra:
                raise
            except RegistryError as error:
                outcomes[version.ref] = Replayed(None, error.message)
    return outcomes


class Hosts:
    """Engines by base, each started when the first version needs it."""

    def __init__(self, registry: AnyRegistry, base: str | None) -> None:
        self._registry = registry
        self._base = base
        self._open: dict[str, Host] = {}
        self._stack = contextlib.ExitStack()

    @contextlib.contextmanager
    def opened(self) -> Iterator[Hosts]:
        """Stop every engine at the end."""
        with self._stack:
            yield self

    def replay(self, version: Version) -> Proof:
        """Replay a version's receipt on its base."""
        from registry.hosts import open_host
        from registry.replay import replay

        base = self._base or self._registry.lock(version).base.name
        if base not in self._open:
            self._open[base] = self._stack.enter_context(open_host(self._registry, base))
        return replay(self._registry, version, self._open[base])


def print_replayed(outcomes: Mapping[str, Replayed]) -> None:
    """One line a version."""
    from registry import console

    for ref, outcome in outcomes.items():
        kept = outcome.problem is None
        style = "green" if kept else "red"
        console.print_line(
            f"{'receipt kept' if kept else 'receipt broken'}  {ref}  {outcome}", style
        )
