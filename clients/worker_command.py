"""`hatstand worker`: runs the fine-tuning jobs that servers took."""

from __future__ import annotations

from typing import Annotated

import typer

from .failures import explained
from .registry_option import RegistryOption


def worker(
    base: Annotated[str, typer.Option(help="The base that jobs train on: the served one.")],
    registry: RegistryOption = None,
    queue: Annotated[
        str | None,
        typer.Option(
            help="Where jobs wait: a file, or postgresql://…",
            envvar="HATSTAND_TUNING",
            show_default="tuning.sqlite under HATSTAND_HOME",
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when no job waits.")] = False,
    keep_checkpoints: Annotated[
        int,
        typer.Option(
            min=0,
            help="Versions NAME.ckpt@N that a job leaves: its newest ones; the best stays too.",
            envvar="HATSTAND_KEEP_CHECKPOINTS",
        ),
    ] = 3,
) -> None:
    """Run fine-tuning jobs, one after the other, until told to end."""
    import logging

    with explained("worker", extra="training"):
        from training.worker.command import work

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        work(base, registry, queue=queue, once=once, keep_checkpoints=keep_checkpoints)
