"""A host for commands: an engine over one base for as long as receipts are replayed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from registry.errors import BaseNotFound
from server.environment import prepare
from server.errors import StartupError

if TYPE_CHECKING:
    from registry.hosts import AnsweringHost
    from registry.opening import AnyRegistry


@contextlib.contextmanager
def open_host(registry: AnyRegistry, base: str) -> Iterator[AnsweringHost]:
    """Load a base and run an engine over it and the registry's adapters.

    Raises `BaseNotFound` with the reason when there is no such base or it cannot be run.
    """
    prepare()
    try:
        yield from _host(registry, base)
    except StartupError as failure:
        raise BaseNotFound(str(failure), param="base") from failure


def _host(registry: AnyRegistry, base: str) -> Iterator[AnsweringHost]:
    from server.assembly import engine_settings
    from server.bases import open_base
    from server.engine.build import build_engine, start_worker
    from server.residency import RegistrySource
    from server.settings import EngineOptions

    from .host import EngineHost

    opened = open_base(base)
    settings = engine_settings(EngineOptions(), opened)
    source = RegistrySource(registry, opened.record, opened.config, settings.max_rank)
    worker = start_worker(build_engine(opened, source, settings))
    try:
        activations = str(settings.dtype).removeprefix("torch.")
        yield EngineHost(worker, opened, activations=activations)
    finally:
        worker.stop()
