"""`hatstand serve`: its options, and the settings they become."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .completing import from_registry
from .failures import explained
from .registry_option import RegistryOption
from .sizes import size_argument


class Device(StrEnum):
    """Where the base lives."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Gemm(StrEnum):
    """How 4-bit weights are multiplied on a GPU."""

    exact = "exact"
    fast = "fast"
    batch_invariant = "batch-invariant"


class PrefixScope(StrEnum):
    """Who shares cached prefixes."""

    adapter = "adapter"
    key = "key"


class LogFormat(StrEnum):
    """How log lines are written."""

    text = "text"
    json = "json"


def _count(help_text: str, default: str) -> Any:
    return typer.Option(min=1, help=help_text, show_default=default)


def _memory(help_text: str, default: str) -> Any:
    return typer.Option(
        parser=size_argument,
        metavar="SIZE",
        help=f"{help_text} (512MiB, 20GB).",
        show_default=default,
    )


def _seconds(help_text: str, default: str) -> Any:
    return typer.Option(min=0, help=help_text, show_default=default)


def serve(
    base: Annotated[str, typer.Option(help="A pulled base's name, or a folder.")],
    registry: RegistryOption = None,
    device: Annotated[Device, typer.Option(help="Where the base lives.")] = Device.auto,
    host: Annotated[str, typer.Option(help="Other than loopback needs keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    replicas: Annotated[
        int,
        typer.Option(
            min=1,
            help="Engines behind the one port, each in a process and on a GPU of its own; requests "
            "go where their adapter is.",
        ),
    ] = 1,
    pin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Load at start, never evict.",
            autocompletion=from_registry("references"),
        ),
    ] = None,
    max_slots: Annotated[int | None, _count("Adapters ready at once.", "16")] = None,
    max_rank: Annotated[int | None, _count("The highest rank an adapter may have.", "64")] = None,
    max_batch: Annotated[
        int | None, _count("Sequences that run together.", "32; on a GPU 128")
    ] = None,
    max_queue: Annotated[int | None, _count("Sequences that may wait beyond those.", "256")] = None,
    adapter_share: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="By which part of their time one adapter may lengthen others' steps while they "
            "are asked for too; it may always have as many sequences as the next busiest. "
            "1 limits nothing.",
        ),
    ] = 0.125,
    max_context: Annotated[
        int | None, _count("Tokens of prompt and answer together.", "the base's, if the KV fits")
    ] = None,
    kv_memory: Annotated[
        int | None, _memory("The KV cache", "512MiB on CPU; on a GPU what the rest leaves")
    ] = None,
    host_memory: Annotated[
        int | None, _memory("Adapters kept beside the slots, in host memory", "2GiB")
    ] = None,
    shadow_bf16: Annotated[
        bool | None,
        typer.Option(
            "--shadow-bf16/--no-shadow-bf16",
            help="Hold the base dequantized too, at 4x its memory. On a GPU for steps of more "
            "than 128 rows, that is prompts; on CPU where plain torch runs. Same weights.",
            show_default="where that is faster",
        ),
    ] = None,
    gemm: Annotated[
        Gemm,
        typer.Option(
            help="How a GPU multiplies with 4-bit weights. exact: with those trained against. "
            "fast: with their scales applied after rounding, so other weights. batch-invariant: "
            "exact, and a request's logits have the same bits in any batch; slower."
        ),
    ] = Gemm.exact,
    fp8_kv: Annotated[
        bool,
        typer.Option(
            "--fp8-kv",
            help="On a GPU: keep keys and values in 8 bits. Twice the tokens in the same memory; "
            "changes answers several times as much as bf16 does.",
        ),
    ] = False,
    require_receipt: Annotated[
        bool,
        typer.Option(
            "--require-receipt", help="Follow a moved alias once its receipt was replayed here."
        ),
    ] = False,
    require_signature: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Serve only versions that this public key (PEM) has signed; may be repeated.",
        ),
    ] = None,
    fine_tuning: Annotated[
        bool, typer.Option("--fine-tuning", help="Take training jobs, for `hatstand worker`.")
    ] = False,
    keep_responses: Annotated[
        bool, typer.Option(help="Keep what /v1/responses answers, for 30 days.")
    ] = True,
    request_timeout: Annotated[
        float | None, _seconds("Longest a request may take, in seconds.", "600")
    ] = None,
    drain_delay: Annotated[
        float | None,
        _seconds(
            "Seconds after SIGTERM until new requests are refused; /readyz is 503 at once.", "0"
        ),
    ] = None,
    drain_timeout: Annotated[
        float | None, _seconds("Seconds that running requests have at the end.", "30")
    ] = None,
    api_keys_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="KEY[:SCOPE+SCOPE[:TENANT[:PATTERN+PATTERN]]] lines."),
    ] = None,
    prefix_scope: Annotated[
        PrefixScope,
        typer.Option(
            help="Who shares what was computed of a prompt's beginning: all who ask an adapter, or "
            "requests of one key, so that no other can tell from times what was asked."
        ),
    ] = PrefixScope.adapter,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve other machines without keys.")
    ] = False,
    log_format: Annotated[
        LogFormat,
        typer.Option(envvar="HATSTAND_LOG_FORMAT", help="Lines for people, or JSON objects."),
    ] = LogFormat.text,
    supervise: Annotated[
        bool, typer.Option(help="Start the serving process again when it dies.")
    ] = os.name == "posix",
) -> None:
    """Serve one base and every adapter of a registry over HTTP."""
    with explained("serve", extra="server"):
        from server.serve import serve as run
        from server.settings import ApiSettings, EngineOptions, Settings, find_keys

        where = {} if registry is None else {"registry": registry}
        limits = {
            "request_timeout": request_timeout,
            "drain_delay": drain_delay,
            "drain_timeout": drain_timeout,
        }
        settings = Settings(
            base=base,
            host=host,
            port=port,
            replicas=replicas,
            insecure=insecure,
            fine_tuning=fine_tuning,
            keep_responses=keep_responses,
            log_format=log_format.value,
            supervised=supervise,
            api=ApiSettings(
                keys=find_keys(api_keys_file),
                pins=tuple(pin or ()),
                require_receipt=require_receipt,
                trusted_keys=tuple(require_signature or ()),
                prefix_scope=prefix_scope.value,
                **_given(limits),
            ),
            engine=EngineOptions(
                device=device.value,
                max_slots=max_slots,
                max_rank=max_rank,
                max_batch=max_batch,
                max_queue=max_queue,
                adapter_share=adapter_share,
                max_context=max_context,
                kv_memory=kv_memory,
                host_memory=host_memory,
                shadow_bf16=shadow_bf16,
                gemm=gemm.value,
                fp8_kv=fp8_kv,
            ),
            **where,
        )
        run(settings)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
