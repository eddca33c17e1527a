"""From the recipe's section `tracking` to transformers' callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from registry.homes import hatstand_home
from training.errors import MissingExtra, RecipeError
from training.recipe import TrackingSettings

from .event_log import EventLog
from .figures import FigureTracker
from .tensorboard import TensorBoardLog
from .wandb_run import WandbRun


def trackers(settings: TrackingSettings, output: Path) -> tuple[TrainerCallback, ...]:
    """The callbacks that `settings` names, for the run that writes `output`.

    Raises `RecipeError` for a dotted path that leads to no callback, and `MissingExtra`.
    """
    folder = settings.folder or hatstand_home() / "runs" / output.name
    every, name = settings.every, output.name
    makers: dict[str, Callable[[], TrainerCallback]] = {
        "jsonl": lambda: EventLog(folder, every),
        "tensorboard": lambda: TensorBoardLog(folder, every),
        "wandb": lambda: WandbRun(settings.wandb, name, folder, every),
    }
    for package, tracker, extra in (
        ("tensorboardX", "tensorboard", "training"),
        ("wandb", "wandb", "wandb"),
    ):
        if tracker in settings.report_to and find_spec(package) is None:
            raise MissingExtra(package, extra)
    ours = tuple(makers[tracker]() for tracker in settings.report_to)
    return ours + tuple(find_callback(path) for path in settings.callbacks)


@contextmanager
def following(settings: TrackingSettings, output: Path) -> Iterator[tuple[TrainerCallback, ...]]:
    """The trackers of one run, closed at its end, however it ends."""
    found = trackers(settings, output)
    try:
        yield found
    finally:
        for tracker in found:
            if isinstance(tracker, FigureTracker):
                tracker.close()


def keep(found: Iterable[TrainerCallback], folder: Path) -> None:
    """Show the trackers the finished adapter."""
    for tracker in found:
        if isinstance(tracker, FigureTracker):
            tracker.keep(folder)


def find_callback(path: str) -> TrainerCallback:
    """The callback at a dotted path: an instance, or a class or function that makes one."""
    module, _, attribute = path.rpartition(".")
    try:
        found: Any = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError([f"`tracking.callbacks`: {path} cannot be imported: {error}"]) from error
    if callable(found) and not isinstance(found, TrainerCallback):
        found = found()
    if not isinstance(found, TrainerCallback):
        raise RecipeError([f"`tracking.callbacks`: {path} is no transformers.TrainerCallback"])
    return found
