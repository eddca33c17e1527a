"""A server put together from its settings: base, registry, engine, and HTTP in front."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.bases import find_base
from registry.errors import RegistryError
from registry.errors import Unavailable as RegistryUnavailable
from registry.tracing import open_tracing
from server.environment import prepare
from server.errors import ServingError, StartupError
from server.registry_link import RegistryLink
from server.settings import ApiSettings, EngineOptions, Settings

if TYPE_CHECKING:  # torch takes seconds to import: only when there is a server to build
    from registry.opening import AnyRegistry
    from registry.replay import Source
    from registry.tuning import Queue
    from registry.versions import Version
    from server.api.draining import DrainingServer
    from server.api.responses import ResponseStore
    from server.bases import Base
    from server.engine.config import EngineSettings
    from server.engine.engine import Engine
    from server.engine.worker import EngineWorker
    from server.proof import ReceiptGate, SignatureGuard
    from server.residency import RegistrySource

logger = logging.getLogger(__name__)

Report = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""


def assemble(
    settings: Settings, report: Report, announce: Callable[[], None] = lambda: None
) -> DrainingServer:
    """Open base and registry, load the engine, put HTTP in front; nothing is answered yet.

    `announce` is called once requests are taken. Raises StartupError.
    """
    check_base(settings.base)
    prepare()
    report("Importing torch", 0, 1)
    from server.api.app import create_app
    from server.api.draining import DrainingServer
    from server.api.readiness import Readiness
    from server.bases import open_base
    from server.engine.build import start_worker
    from server.residency import RegistrySource

    report("Opening the base", 0, 1)
    base, link = open_base(settings.base), _open_registry(settings.registry)
    registry = link.registry
    _check_pins(settings, base, registry)
    limits = engine_settings(settings.engine, base)
    source = RegistrySource(registry, base.record, base.config, limits.max_rank)
    worker = start_worker(_build(base, source, limits, report))
    readiness = Readiness(worker, settings.api.pins, warnings=link.warnings)
    gate = _gate(worker, registry, base, limits) if settings.api.require_receipt else None
    guard = _guard(registry, settings)
    queue = _open_queue() if settings.fine_tuning else None
    app = create_app(
        worker,
        registry,
        base,
        _api_settings(settings, limits),
        readiness=readiness,
        link=link,
        gate=gate,
        guard=guard,
        queue=queue,
        responses=_open_responses() if settings.keep_responses else None,
        tracing=open_tracing("hatstand"),
    )
    return DrainingServer(
        app,
        readiness,
        drain_timeout=settings.api.drain_timeout,
        drain_delay=settings.api.drain_delay,
        announce=announce,
    )


def _build(base: Base, source: RegistrySource, limits: EngineSettings, report: Report) -> Engine:
    """The engine, built on a thread of its own.

    A thread that ends takes its OpenMP threads with it. While there are more of them than cores,
    GNU's OpenMP puts every waiting one to sleep at once, and steps take twice as long.
    """
    from server.engine.build import build_engine

    with ThreadPoolExecutor(1, thread_name_prefix="build") as builder:
        return builder.submit(
            build_engine, base, source, limits, lambda *done: report("Loading weights", *done)
        ).result()


def _api_settings(settings: Settings, limits: EngineSettings) -> ApiSettings:
    """With no more sequences in a request than there are places: it would be refused for ever."""
    places = limits.max_batch + limits.max_waiting
    return replace(settings.api, max_prompts=min(settings.api.max_prompts, places))


def _gate(
    worker: EngineWorker, registry: Source, base: Base, settings: EngineSettings
) -> ReceiptGate:
    """What replays the receipts of versions that aliases are moved to, once for each engine."""
    from registry.homes import hatstand_home
    from registry.replay import Proof, replay
    from server.proof import EngineHost, ProofBook, ReceiptGate, engine_digest

    activations = str(settings.dtype).removeprefix("torch.")
    host = EngineHost(worker, base, activations=activations)
    book = ProofBook(
        hatstand_home() / "proofs",
        base=base.record.fingerprint,
        engine=engine_digest(),
        settings=repr(settings),
    )

    def prove(version: Version) -> Proof:
        proof = book.find(version.digest)
        if proof is None:
            proof = replay(registry, version, host)
            book.write(version.digest, proof)
        return proof

    return ReceiptGate(prove)


def _guard(registry: AnyRegistry, settings: Settings) -> SignatureGuard | None:
    """What refuses versions that none of the trusted keys has signed."""
    if not settings.api.trusted_keys:
        return None
    from registry.signing import Trust, check_signature
    from server.proof import SignatureGuard

    trust = Trust(keys=settings.api.trusted_keys)
    try:
        list(trust.verifiers())  # a key that cannot be read is said at the start
    except RegistryError as failure:
        raise StartupError(f"--require-signature: {failure.message}") from None
    return SignatureGuard(lambda version: check_signature(registry, version, trust))


def engine_settings(options: EngineOptions, base: Base) -> EngineSettings:
    """The engine's settings: what was asked, and the engine's own defaults for the rest."""
    from server.engine.config import EngineSettings

    asked: dict[str, Any] = {
        "max_slots": options.max_slots,
        "max_rank": options.max_rank,
        "max_batch": options.max_batch,
        "max_waiting": options.max_queue,
        "adapter_share": options.adapter_share,
        "max_context": options.max_context,
        "kv_memory": options.kv_memory,
        "host_memory": options.host_memory,
    }
    if options.max_context is not None and options.max_context > base.max_context:
        raise StartupError(
            f"--max-context {options.max_context} is over the {base.max_context} tokens that "
            f"'{base.name}' was made for."
        )
    settings = EngineSettings.on(choose_device(options.device))
    settings = replace(settings, gemm=options.gemm, fp8_kv=options.fp8_kv)
    if options.shadow_bf16 is not None:
        settings = replace(settings, weights="nf4-shadow" if options.shadow_bf16 else "nf4")
    return replace(settings, **{key: value for key, value in asked.items() if value is not None})


def choose_device(asked: str) -> str:
    """`cuda` if there is one and nobody said otherwise. Raises StartupError if it is missing."""
    import torch

    has_cuda = torch.cuda.is_available()
    if asked == "cuda" and not has_cuda:
        raise StartupError(
            "--device cuda was asked for, but torch sees no CUDA device. Use --device cpu, or "
            "install a CUDA build of torch and check nvidia-smi."
        )
    if asked == "auto":
        return "cuda" if has_cuda else "cpu"
    return asked


def check_base(name: str) -> None:
    """A base that is not there is said before torch is imported, which takes seconds."""
    try:
        find_base(name)
    except RegistryError as error:
        raise StartupError(error.message) from error


def _open_registry(location: str | Path) -> RegistryLink:
    """A registry that cannot be opened is a matter of what was asked."""
    try:
        return RegistryLink.open(location)
    except RegistryError as error:
        raise StartupError(f"--registry {location}: {error.message}") from error


def _open_queue() -> Queue:
    """Where fine-tuning jobs wait for a worker; HATSTAND_TUNING says where that is."""
    from registry.tuning import open_queue

    try:
        return open_queue()
    except RegistryError as error:
        raise StartupError(f"--fine-tuning: {error.message}") from error


def _open_responses() -> ResponseStore:
    """Where answers of /v1/responses are kept; HATSTAND_RESPONSES says where that is."""
    from server.api.responses import open_responses

    try:
        return open_responses()
    except RegistryError as error:
        raise StartupError(f"--keep-responses: {error.message}") from error


def _check_pins(settings: Settings, base: Base, registry: AnyRegistry) -> None:
    """A pin that names nothing is a typing error: better said now than in /readyz.

    Of a registry that does not answer nothing is known: /readyz waits for it.
    """
    from server.api.models import Models

    models = Models(registry, base)
    for reference in settings.api.pins:
        try:
            models.resolve(reference)
        except RegistryUnavailable as failure:
            logger.warning("pin %s: %s", reference, failure.message)
        except (RegistryError, ServingError) as error:
            raise StartupError(f"--pin {reference}: {error}") from error
