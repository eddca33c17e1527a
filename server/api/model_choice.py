"""Which model a request gets: by name, header, session, and what is in a slot right now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

import anyio.from_thread

from registry.errors import RegistryError
from server.engine.request import AdapterRef, EngineStats
from server.errors import AdapterCold, InvalidRequest, ServingError

from .composition_body import WeightedName
from .compositions import composed
from .leases import Leases
from .models import Models, ServedModel
from .ports import Engine
from .wishes import ADAPTER, COLD, Wishes

logger = logging.getLogger(__name__)


class ModelChoice:
    """Chooses, and takes a lease on the version that was chosen."""

    def __init__(self, *, models: Models, engine: Engine, leases: Leases) -> None:
        self._models = models
        self._engine = engine
        self._leases = leases
        self._warming: set[asyncio.Task[None]] = set()

    def choose(self, name: str, wishes: Wishes, parts: Sequence[WeightedName] = ()) -> ServedModel:
        """The model of that name, or the sum of `parts` with its hat.

        Call it on a thread of anyio's: it reads the catalog. Raises what `Models.choose` and
        `composed` do, InvalidRequest where header and body name two adapters, and AdapterCold where
        the caller would rather not wait.
        """
        name = self._name(name, wishes.adapter)
        if parts:
            model = composed(self._models, name, parts)
        else:
            model = self._models.choose(name, wishes.session)
        if model.adapter is not None and wishes.cold != "wait":
            model = self._warm_or_else(model, model.adapter, wishes)
        if model.adapter is not None:
            for version in model.adapter.versions:
                self._leases.cover(version.digest)
        return model

    def _name(self, in_body: str, in_header: str) -> str:
        """A gateway's header goes before the base's name, not before another adapter's."""
        if not in_header or in_header == in_body:
            return in_body
        if in_body != self._models.base.name:
            raise InvalidRequest(
                f"The header {ADAPTER} says '{in_header}', 'model' says '{in_body}': give one of "
                "them, or the base's name as 'model'.",
                param="model",
            )
        return in_header

    def _warm_or_else(self, model: ServedModel, adapter: AdapterRef, wishes: Wishes) -> ServedModel:
        """The model if its adapter is in a slot; else what was wished, and it is loaded meanwhile.

        For "stale" without an older version in a slot, the request waits.
        """
        stats = self._engine.stats()
        in_slots = [held for held in stats.resident if held.level == "slot"]
        if any(held.digest == adapter.digest for held in in_slots):
            return model
        if wishes.cold == "stale":
            labels = [held.label for held in in_slots if _is_older(held.label, model.label)]
            stale = self._first_servable(labels)
            if stale is None:
                return model
            self._warm(adapter)
            return replace(stale, name=model.name)
        self._warm(adapter)
        if wishes.cold == "base":
            return self._models.resolve(self._models.base.name)  # if the key may name it
        raise AdapterCold(
            f"{model.label} is not loaded, and the header {COLD} says not to wait for it. It is "
            "being loaded now.",
            param="model",
            retry_after=_load_seconds(stats),
        )

    def _first_servable(self, labels: list[str]) -> ServedModel | None:
        for label in sorted(labels, key=lambda label: -int(label.partition("@")[2])):
            try:
                return self._models.resolve(label)
            except (RegistryError, ServingError):
                continue  # withdrawn since
        return None

    def _warm(self, adapter: AdapterRef) -> None:
        """Have it loaded beside everything else; nobody waits for that."""
        anyio.from_thread.run_sync(self._begin, adapter)

    def _begin(self, adapter: AdapterRef) -> None:
        task = asyncio.create_task(self._load(adapter))
        self._warming.add(task)
        task.add_done_callback(self._warming.discard)

    async def _load(self, adapter: AdapterRef) -> None:
        try:
            await self._engine.load_adapter(adapter)
        except ServingError as error:
            logger.warning("%s could not be loaded ahead: %s", adapter.label, error.message)


def _is_older(label: str, than: str) -> bool:
    """Whether "sql@3" is an earlier version of "sql@7".

    A later one may be there too: one that was rolled back, or a canary. A composition has
    no number.
    """
    (name, _, number), (wanted, _, newest) = label.partition("@"), than.partition("@")
    are_versions = number.isdecimal() and newest.isdecimal()
    return name == wanted and are_versions and int(number) < int(newest)


def _load_seconds(stats: EngineStats) -> float:
    """How long adapters have taken on their way into a slot, on average; 1 before the first."""
    moves = (stats.load_times, stats.activate_times)
    return sum(times.total / max(1, sum(times.counts)) for times in moves) or 1.0
