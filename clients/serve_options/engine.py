"""The engine: where the base lives, how much runs at once, and in what memory."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from clients.sizes import size_argument


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


def _count(help_text: str, default: str) -> Any:
    return typer.Option(min=1, help=help_text, show_default=default)


def _memory(help_text: str, default: str) -> Any:
    return typer.Option(
        parser=size_argument,
        metavar="SIZE",
        help=f"{help_text} (512MiB, 20GB).",
        show_default=default,
    )


BaseOption = Annotated[str, typer.Option(help="A pulled base's name, or a folder.")]
DeviceOption = Annotated[Device, typer.Option(help="Where the base lives.")]
MaxSlotsOption = Annotated[int | None, _count("Adapters ready at once.", "16")]
MaxRankOption = Annotated[int | None, _count("The highest rank an adapter may have.", "64")]
MaxBatchOption = Annotated[int | None, _count("Sequences that run together.", "32; on a GPU 128")]
MaxQueueOption = Annotated[int | None, _count("Sequences that may wait beyond those.", "256")]
AdapterShareOption = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="By which part of their time one adapter may lengthen others' steps while they "
        "are asked for too; it may always have as many sequences as the next busiest. "
        "1 limits nothing.",
    ),
]
MaxContextOption = Annotated[
    int | None, _count("Tokens of prompt and answer together.", "the base's, if the KV fits")
]
KvMemoryOption = Annotated[
    int | None, _memory("The KV cache", "512MiB on CPU; on a GPU what the rest leaves")
]
HostMemoryOption = Annotated[
    int | None, _memory("Adapters kept beside the slots, in host memory", "2GiB")
]
ShadowOption = Annotated[
    bool | None,
    typer.Option(
        "--shadow-bf16/--no-shadow-bf16",
        help="Hold the base dequantized too, at 4x its memory. On a GPU for steps of more "
        "than 128 rows, that is prompts; on CPU where plain torch runs. Same weights.",
        show_default="where that is faster",
    ),
]
GemmOption = Annotated[
    Gemm,
    typer.Option(
        help="How a GPU multiplies with 4-bit weights. exact: with those trained against. "
        "fast: with their scales applied after rounding, so other weights. batch-invariant: "
        "exact, and a request's logits have the same bits in any batch; slower."
    ),
]
Fp8KvOption = Annotated[
    bool,
    typer.Option(
        "--fp8-kv",
        help="On a GPU: keep keys and values in 8 bits. Twice the tokens in the same memory; "
        "changes answers several times as much as bf16 does.",
    ),
]
