"""Leases cover every request, and are written seldom."""

from __future__ import annotations

from registry.errors import CatalogUnavailable
from server.api.leases import Leases
from tests.server.api.fakes import FakeRegistry


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_always_covers_the_longest_request() -> None:
    registry, clock = FakeRegistry(), Clock()
    leases = Leases(registry, holder="me", longest_use=100, clock=clock)
    until = 0.0
    for now in range(0, 1000, 7):
        clock.now = now
        before = len(registry.leases)
        leases.cover("sha256:a")
        if len(registry.leases) > before:
            until = now + registry.leases[-1][2]
        assert until >= now + 100
    assert len(registry.leases) <= 11


def test_a_catalog_that_cannot_be_written_stops_nobody() -> None:
    class Broken(FakeRegistry):
        attempts = 0

        def lease(self, digest: str, holder: str, seconds: float) -> None:
            self.attempts += 1
            raise CatalogUnavailable(f"{holder} cannot hold {digest} for {seconds} s")

    registry, clock = Broken(), Clock()
    leases = Leases(registry, holder="me", longest_use=100, clock=clock)
    for now in (0, 1, 31, 32):
        clock.now = now
        leases.cover("sha256:a")
    assert registry.attempts == 2


def test_only_versions_in_use_are_remembered() -> None:
    registry, clock = FakeRegistry(), Clock()
    leases = Leases(registry, holder="me", longest_use=100, clock=clock)
    for now in range(1000):
        clock.now = now
        leases.cover(f"sha256:{now}")
        leases.cover("sha256:always")
    assert len(leases._renew_at) <= 102
    assert sum(digest == "sha256:always" for digest, *_ in registry.leases) == 10
