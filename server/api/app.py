"""The ASGI application: routes, layers and one lifespan."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount, Route

from registry.tracing import Traced, Tracing
from registry.tuning import Queue
from registry.versions import Version
from server.canary.arms import Arms
from server.canary.collector import CanaryCollector
from server.canary.keeper import Keeper
from server.canary.tally import Tally
from server.metrics import Metrics
from server.proof import ReceiptGate, SignatureGuard
from server.registry_link import RegistryLink
from server.settings import ApiSettings
from server.structure import GrammarCompiler

from .adapter_routes import AdapterRoutes
from .console import Console
from .embeddings import EmbeddingRoutes
from .embeddings.embedder import Embedder
from .embeddings.intake import EmbeddingIntake
from .errors import from_http_exception
from .generate_routes import GenerateRoutes
from .generation import Generation
from .intake import Intake
from .keys import KeyRing
from .leases import Leases
from .middleware import (
    AccessLog,
    BodyLimit,
    Deadline,
    ErrorHandler,
    InFlight,
    RequestId,
    RequireScope,
)
from .model_choice import ModelChoice
from .model_routes import ModelRoutes
from .models import Models
from .ports import AdapterRegistry, Base, Engine
from .readiness import Readiness
from .responses import ONE_RESPONSE, RESPONSES, ResponseRoutes, ResponseStore
from .status_routes import StatusRoutes
from .token_meter import TokenMeter
from .token_routes import TokenRoutes
from .tuning import FILES, tuning_routes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Parts:
    """What the routes are made of."""

    engine: Engine
    registry: AdapterRegistry
    base: Base
    settings: ApiSettings
    metrics: Metrics
    meter: TokenMeter
    models: Models
    arms: Arms
    tally: Tally
    readiness: Readiness
    keys: KeyRing
    grammars: GrammarCompiler
    link: RegistryLink | None
    queue: Queue | None
    responses: ResponseStore | None
    tracing: Tracing | None


def create_app(
    engine: Engine,
    registry: AdapterRegistry,
    base: Base,
    settings: ApiSettings | None = None,
    *,
    readiness: Readiness | None = None,
    link: RegistryLink | None = None,
    gate: ReceiptGate | None = None,
    guard: SignatureGuard | None = None,
    queue: Queue | None = None,
    responses: ResponseStore | None = None,
    tracing: Tracing | None = None,
) -> Starlette:
    """One server's HTTP layer. `engine` must be running; the app's lifespan stops it.

    Pass a `readiness` to share it with whoever begins the drain (as server.assembly), and a `link`
    to have the registry's own API under /registry, and its state among the metrics. A `gate` holds
    moved aliases back until their versions are proven, a `guard` refuses versions that nobody
    trusted has signed. With a `queue` there are fine-tuning jobs; `responses` keeps answers for
    conversations to go on from. `tracing` takes the requests' spans, and is closed at the end.
    """
    settings = settings or ApiSettings()
    metrics, meter, arms, tally = Metrics(), TokenMeter(), Arms(), Tally()
    models = Models(registry, base, gate, arms, guard)
    metrics.watch_engine(engine.stats, base_name=base.name, request_names=models.names.of)
    metrics.registry.register(meter)
    metrics.registry.register(CanaryCollector(arms, tally))
    parts = _Parts(
        engine=engine,
        registry=registry,
        base=base,
        settings=settings,
        metrics=metrics,
        meter=meter,
        models=models,
        arms=arms,
        tally=tally,
        readiness=readiness or Readiness(engine, settings.pins),
        keys=KeyRing(settings.keys, parts_prefixes=settings.prefix_scope == "key"),
        grammars=GrammarCompiler(base.tokenizer, base.record.config["vocab_size"]),
        link=link,
        queue=queue,
        responses=responses,
        tracing=tracing,
    )
    if link is not None:
        metrics.watch_registry(lambda: link.is_connected)
    return Starlette(
        routes=_routes(parts),
        middleware=[
            *([] if tracing is None else [Middleware(Traced, tracing=tracing)]),
            Middleware(RequestId),
            Middleware(AccessLog, metrics=metrics),
            Middleware(ErrorHandler),
            Middleware(BodyLimit, max_bytes=settings.max_body, by_path=_larger_bodies(queue)),
            Middleware(Deadline, seconds=settings.request_timeout),
        ],
        exception_handlers={HTTPException: from_http_exception},
        lifespan=lambda _app: _lifespan(parts, gate),
    )


def _routes(parts: _Parts) -> list[BaseRoute]:
    choice = _choice(parts)
    intake, generation = _intake(parts, choice), _generation(parts)
    generate = GenerateRoutes(intake=intake, generation=generation)
    responses = ResponseRoutes(intake=intake, generation=generation, store=parts.responses)
    embeddings = _embeddings(parts, choice)
    tokens = TokenRoutes(intake=intake, models=parts.models, base=parts.base)
    models = ModelRoutes(models=parts.models, base=parts.base, engine=parts.engine)
    adapters = AdapterRoutes(models=parts.models, engine=parts.engine, readiness=parts.readiness)
    status = StatusRoutes(
        engine=parts.engine,
        base=parts.base,
        readiness=parts.readiness,
        metrics=parts.metrics,
        meter=parts.meter,
        tunes=parts.queue is not None,
    )
    admin = [Middleware(RequireScope, keys=parts.keys, scope="admin")]
    inference = [Middleware(RequireScope, keys=parts.keys, scope="inference")]
    generating = [*inference, _in_flight(parts)]
    return [
        Route("/v1/chat/completions", generate.chat, methods=["POST"], middleware=generating),
        Route("/v1/completions", generate.completion, methods=["POST"], middleware=generating),
        Route(RESPONSES, responses.create, methods=["POST"], middleware=generating),
        Route("/v1/embeddings", embeddings.create, methods=["POST"], middleware=generating),
        Route(ONE_RESPONSE, responses.show, methods=["GET"], middleware=inference),
        Route(ONE_RESPONSE, responses.remove, methods=["DELETE"], middleware=inference),
        Route(ONE_RESPONSE + "/input_items", responses.input_items, middleware=inference),
        Route("/tokenize", tokens.tokenize, methods=["POST"], middleware=inference),
        Route("/detokenize", tokens.detokenize, methods=["POST"], middleware=inference),
        Route("/v1/models", models.index, middleware=inference),
        Route("/v1/models/{model_id:path}", models.show, middleware=inference),
        Route("/v1/load_lora_adapter", adapters.load, methods=["POST"], middleware=admin),
        Route("/v1/unload_lora_adapter", adapters.unload, methods=["POST"], middleware=admin),
        Route("/metrics", status.metrics),
        Route("/healthz", status.health),
        Route("/readyz", status.ready),
        Route("/debug/state", status.state, middleware=inference),
        Route("/debug/batches", status.batches, middleware=inference),
        Route("/openapi.json", status.openapi),
        *Console().routes,
        *_tuning_routes(parts),
        *_registry_routes(parts),
    ]


def _tuning_routes(parts: _Parts) -> list[Route]:
    if parts.queue is None:
        return []
    tuning = [Middleware(RequireScope, keys=parts.keys, scope="tuning")]
    return tuning_routes(parts.queue, parts.base, tuning)


def _larger_bodies(queue: Queue | None) -> dict[str, int]:
    """Paths whose bodies may be larger than others: a form takes a little beside the file in it."""
    return {} if queue is None else {FILES: queue.files.limits.max_bytes + (1 << 16)}


def _registry_routes(parts: _Parts) -> list[BaseRoute]:
    """The embedded registry's API. Once the server wants keys, so does the registry: its own."""
    app = None if parts.link is None else parts.link.app(is_open=parts.keys.is_open)
    return [] if app is None else [Mount("/registry", app=app)]


def _choice(parts: _Parts) -> ModelChoice:
    leases = Leases(
        parts.registry,
        holder=f"{socket.gethostname()}:{os.getpid()}",
        longest_use=parts.settings.request_timeout,
    )
    return ModelChoice(models=parts.models, engine=parts.engine, leases=leases)


def _embeddings(parts: _Parts, choice: ModelChoice) -> EmbeddingRoutes:
    most = parts.settings.max_prompts
    return EmbeddingRoutes(
        intake=EmbeddingIntake(engine=parts.engine, base=parts.base, choice=choice),
        embedder=Embedder(engine=parts.engine, metrics=parts.metrics, most=most),
        tally=parts.tally,
    )


def _intake(parts: _Parts, choice: ModelChoice) -> Intake:
    return Intake(
        engine=parts.engine,
        base=parts.base,
        choice=choice,
        grammars=parts.grammars,
        settings=parts.settings,
    )


def _generation(parts: _Parts) -> Generation:
    return Generation(
        engine=parts.engine,
        metrics=parts.metrics,
        meter=parts.meter,
        tally=parts.tally,
        settings=parts.settings,
    )


def _in_flight(parts: _Parts) -> Middleware:
    return Middleware(InFlight, readiness=parts.readiness, retry_after=parts.settings.drain_timeout)


def _keeper(parts: _Parts) -> Keeper:
    async def prepare(version: Version) -> None:
        admit = parts.models.admit  # may wait for a receipt's replay, which no shutdown does
        model = await anyio.to_thread.run_sync(admit, version, abandon_on_cancel=True)
        if model.adapter is not None:
            await parts.engine.load_adapter(model.adapter)

    return Keeper(
        arms=parts.arms,
        tally=parts.tally,
        registry=parts.registry,
        prepare=prepare,
        # Not what a process of the same number, started after this one, calls itself.
        holder=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
        interval=parts.settings.canary_interval,
    )


@contextlib.asynccontextmanager
async def _lifespan(parts: _Parts, gate: ReceiptGate | None) -> AsyncIterator[None]:
    """Load the pinned adapters beside serving; at the end, drain the engine and stop it."""
    beside = [
        asyncio.create_task(parts.readiness.load_pins(parts.models)),
        asyncio.create_task(_keeper(parts).run()),
    ]
    caring = contextlib.nullcontext() if parts.link is None else parts.link.cared_for()
    try:
        async with caring:
            yield
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        parts.readiness.begin_drain()
        if gate is not None:
            gate.stop()
        await parts.engine.drain(parts.settings.drain_timeout)
        await anyio.to_thread.run_sync(parts.engine.stop)
        parts.grammars.close()
        if parts.link is not None:
            parts.link.close()
        if parts.queue is not None:
            parts.queue.close()
        if parts.responses is not None:
            parts.responses.close()
        if parts.tracing is not None:
            await anyio.to_thread.run_sync(parts.tracing.close)
