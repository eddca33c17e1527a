"""What `hatstand train` calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from registry.bases import find_base
from registry.errors import RegistryError

from .errors import BaseError
from .examples import read_examples
from .foundation import prepare
from .output import check_output
from .processes import is_first
from .progress import Progressing
from .provenance import source_commit
from .push import parse_target, push
from .reading import read_recipe

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from registry import Version

    from .metrics import Metrics


@dataclass(frozen=True)
class Trained:
    """What came out: the adapter folder, what was measured, and the version if it was pushed."""

    folder: Path
    metrics: Metrics
    version: Version | None


def train(
    recipe: Path,
    overrides: Sequence[str] = (),
    push_to: str | None = None,
    registry: Path | str | None = None,
    *,
    resume: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
    work: Path | None = None,
    console: Console | None = None,
) -> Trained:
    """Train the adapter that `recipe` describes, and push it where `push_to` says.

    `overrides` are `key.path=value`, `push_to` is NAME or NAME@ALIAS, `registry` is a folder
    or a URL (None: the default folder); `resume` goes on from the newest checkpoint, which is
    looked for in `work` (None: beside the output). `callbacks` are told of every step; what they
    raise ends the run. Recipe, data, base and output are checked before torch is imported. Raises
    a `TrainingError`, whose `message` is all a person needs.
    """
    console = console or Console(quiet=not is_first())
    progress = Progressing(console)
    settings = read_recipe(recipe, overrides)
    target = None if push_to is None else parse_target(push_to)
    examples = read_examples(settings.data)
    check_output(settings.output)
    base = locate(settings.base)
    served = base if settings.serve_on is None else locate(settings.serve_on)
    for note in settings.translated:
        progress.say(note)
    prepare()
    with progress.phase("import", "importing torch, transformers, peft and bitsandbytes"):
        from .fitting import Session
        from .run import Run
        from .zero import configuration
    if settings.train.deepspeed is not None:
        configuration(settings.train.deepspeed)  # what is wrong with it shows before the base loads
    commit = source_commit(recipe.absolute().parent)
    session = Session(resume, work, tuple(callbacks))
    run = Run(settings, examples, base, served, commit, progress, session)
    metrics = run.execute()
    _report(console, settings.output, metrics)
    version = None
    if target is not None:
        version = push(settings.output, target, registry)
        console.print(f"pushed as [bold]{version.ref}[/bold]  {version.digest[:19]}…")
    return Trained(settings.output, metrics, version)


def locate(base: str) -> Path:
    """The folder of a base by name or path. Raises `BaseError`."""
    try:
        return find_base(base)
    except RegistryError as error:
        raise BaseError(error.message) from error


def _report(console: Console, folder: Path, metrics: Metrics) -> None:
    if metrics.before is not None and metrics.after is not None:
        console.print(
            f"held-out exact match {metrics.before.exact_match:.2f} → "
            f"[bold]{metrics.after.exact_match:.2f}[/bold] ({len(metrics.questions)} rows)"
        )
    seconds = sum(metrics.seconds.values())
    console.print(f"adapter in {folder}  ({seconds:.0f} s)", soft_wrap=True)
