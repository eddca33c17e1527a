"""The ASGI application: routes, and the layers around them."""

from __future__ import annotations

import os
import socket

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount, Route

from registry.tracing import Traced, Tracing
from registry.tuning import Queue
from server.canary.arms import Arms
from server.canary.collector import CanaryCollector
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
from .lifespan import lifespan
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
from .parts import Parts
from .ports import AdapterRegistry, Base, Engine
from .readiness import Readiness
from .responses import ONE_RESPONSE, RESPONSES, ResponseRoutes, ResponseStore
from .status_routes import StatusRoutes
from .token_meter import TokenMeter
from .token_routes import TokenRoutes
from .tuning import FILES, tuning_routes


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
    arms = Arms()
    parts = Parts(
        engine=engine,
        registry=registry,
        base=base,
        settings=settings,
        metrics=Metrics(),
        meter=TokenMeter(),
        models=Models(registry, base, gate, arms, guard),
        arms=arms,
        tally=Tally(),
        readiness=readiness or Readiness(engine, settings.pins),
        keys=KeyRing(settings.keys, parts_prefixes=settings.prefix_scope == "key"),
        grammars=GrammarCompiler(base.tokenizer, base.record.config["vocab_size"]),
        link=link,
        queue=queue,
        responses=responses,
        tracing=tracing,
    )
    _watch(parts)
    return Starlette(
        routes=_routes(parts),
        middleware=_layers(parts),
        exception_handlers={HTTPException: from_http_exception},
        lifespan=lambda _app: lifespan(parts, gate),
    )


def _watch(parts: Parts) -> None:
    """Everything that is read afresh at each scrape of the metrics."""
    metrics, link = parts.metrics, parts.link
    metrics.watch_engine(
        parts.engine.stats, base_name=parts.base.name, request_names=parts.models.names.of
    )
    metrics.registry.register(parts.meter)
    metrics.registry.register(CanaryCollector(parts.arms, parts.tally))
    if link is not None:
        metrics.watch_registry(lambda: link.is_connected)


def _layers(parts: Parts) -> list[Middleware]:
    """What every request goes through, outermost first."""
    settings, tracing = parts.settings, parts.tracing
    larger = _larger_bodies(parts.queue)
    return [
        *([] if tracing is None else [Middleware(Traced, tracing=tracing)]),
        Middleware(RequestId),
        Middleware(AccessLog, metrics=parts.metrics),
        Middleware(ErrorHandler),
        Middleware(BodyLimit, max_bytes=settings.max_body, by_path=larger),
        Middleware(Deadline, seconds=settings.request_timeout),
    ]


def _routes(parts: Parts) -> list[BaseRoute]:
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


def _tuning_routes(parts: Parts) -> list[Route]:
    if parts.queue is None:
        return []
    tuning = [Middleware(RequireScope, keys=parts.keys, scope="tuning")]
    return tuning_routes(parts.queue, parts.base, tuning)


def _larger_bodies(queue: Queue | None) -> dict[str, int]:
    """Paths whose bodies may be larger than others: a form takes a little beside the file in it."""
    return {} if queue is None else {FILES: queue.files.limits.max_bytes + (1 << 16)}


def _registry_routes(parts: Parts) -> list[BaseRoute]:
    """The embedded registry's API. Once the server wants keys, so does the registry: its own."""
    app = None if parts.link is None else parts.link.app(is_open=parts.keys.is_open)
    return [] if app is None else [Mount("/registry", app=app)]


def _choice(parts: Parts) -> ModelChoice:
    leases = Leases(
        parts.registry,
        holder=f"{socket.gethostname()}:{os.getpid()}",
        longest_use=parts.settings.request_timeout,
    )
    return ModelChoice(models=parts.models, engine=parts.engine, leases=leases)


def _embeddings(parts: Parts, choice: ModelChoice) -> EmbeddingRoutes:
    most = parts.settings.max_prompts
    return EmbeddingRoutes(
        intake=EmbeddingIntake(engine=parts.engine, base=parts.base, choice=choice),
        embedder=Embedder(engine=parts.engine, metrics=parts.metrics, most=most),
        tally=parts.tally,
    )


def _intake(parts: Parts, choice: ModelChoice) -> Intake:
    return Intake(
        engine=parts.engine,
        base=parts.base,
        choice=choice,
        grammars=parts.grammars,
        settings=parts.settings,
    )


def _generation(parts: Parts) -> Generation:
    return Generation(
        engine=parts.engine,
        metrics=parts.metrics,
        meter=parts.meter,
        tally=parts.tally,
        settings=parts.settings,
    )


def _in_flight(parts: Parts) -> Middleware:
    return Middleware(InFlight, readiness=parts.readiness, retry_after=parts.settings.drain_timeout)
