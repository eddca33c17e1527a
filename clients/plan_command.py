"""`hatstand plan`: what a device of some size holds."""

from __future__ import annotations

from typing import Annotated

import typer

from .failures import explained
from .registry_option import RegistryOption
from .sizes import size_argument


def plan(
    base: Annotated[
        str,
        typer.Option(
            help="A folder with its config.json, a pulled base's name, hf://org/name, "
            "or a base that the registry knows."
        ),
    ],
    gpu_memory: Annotated[
        int, typer.Option(parser=size_argument, metavar="SIZE", help="What the device has: 80GiB.")
    ],
    adapters: Annotated[int, typer.Option(min=1, help="Ready at once.")] = 16,
    rank: Annotated[int, typer.Option(min=1, help="The highest of them.")] = 16,
    context: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a sequence.", show_default="the base's")
    ] = None,
    shadow_bf16: Annotated[
        bool, typer.Option("--shadow-bf16", help="With the base dequantized.")
    ] = False,
    registry: RegistryOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say what fits into a device's memory: weights, adapters, and how many tokens of cache."""
    with explained("plan", extra="server"):
        from server.planning import print_plan

        print_plan(
            base,
            gpu_memory=gpu_memory,
            adapters=adapters,
            rank=rank,
            context=context,
            shadow=shadow_bf16,
            registry=registry,
            as_json=as_json,
        )
