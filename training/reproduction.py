"""Training a version again from its lock, and saying what comes out differently."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from rich.console import Console

from registry.bases import find_base, read_base
from registry.canonical import digest_file
from registry.errors import RegistryError
from registry.lock import Lock
from registry.opening import open_registry

from .errors import BaseError, DataError, RecipeError
from .examples import read_examples
from .export import WEIGHTS_FILE
from .foundation import prepare
from .progress import Progressing
from .provenance import environment
from .recipe import Recipe

if TYPE_CHECKING:
    from .metrics import Metrics

_PARTS = ("train", "validation", "heldout")


@dataclass(frozen=True)
class Change:
    """One thing that is not as it was: a package, a metric, a tensor."""

    what: str
    before: str
    now: str

    def __str__(self) -> str:
        return f"{self.what}: {self.before} → {self.now}"


@dataclass(frozen=True)
class Reproduction:
    """What a second training came to. Without changes to tensors it is the same adapter."""

    environment: tuple[Change, ...]
    metrics: tuple[Change, ...]
    tensors: tuple[Change, ...]
    num_tensors: int

    @property
    def is_same(self) -> bool:
        return not self.tensors

    def lines(self) -> Iterator[str]:
        """What a person wants to know, the verdict first."""
        if self.is_same:
            yield f"the same adapter: all {self.num_tensors} tensors are equal, bit for bit"
        else:
            yield f"another adapter: {len(self.tensors)} of {self.num_tensors} tensors differ"
        titles = ("environment", "metrics", "tensors")
        for title in titles:
            for change in getattr(self, title):
                yield f"  {title}: {change}"


def reproduce(
    reference: str,
    *,
    data: Path,
    output: Path,
    registry: Path | str | None = None,
    console: Console | None = None,
) -> Reproduction:
    """Train the version's recipe again, on the same rows and base, into the folder `output`.

    Its files are looked for in the folder `data`, by name, and must have the digests of the lock.
    Raises a `TrainingError` before anything is trained when something is missing or has changed.
    """
    console = console or Console()
    store = open_registry(registry)
    version = store.resolve(reference)
    lock = store.lock(version)
    base = _base(lock)
    recipe = _recipe(lock, base, data=data, output=output)
    changed = tuple(_compared(lock.environment, environment()))
    for change in changed:
        console.print(f"environment: {change}", style="yellow", highlight=False)
    prepare()
    metrics = _train(recipe, lock, base, console)
    weights = store.files(version)[WEIGHTS_FILE]
    tensors, count = _compare_tensors(weights, output / WEIGHTS_FILE)
    found = Reproduction(
        environment=changed,
        metrics=tuple(_compared(_rounded(lock.metrics), _rounded(metrics.numbers))),
        tensors=tuple(tensors),
        num_tensors=count,
    )
    for line in found.lines():
        console.print(line, highlight=False)
    return found


def _train(recipe: Recipe, lock: Lock, base: Path, console: Console) -> Metrics:
    from .fitting import Session
    from .run import Run

    examples = read_examples(recipe.data)
    served = base
    trained_on = base if recipe.serve_on is None else Path(recipe.base)
    progress = Progressing(console)
    return Run(
        recipe, examples, trained_on, served, lock.source_commit, progress, Session()
    ).execute()


def _base(lock: Lock) -> Path:
    """The folder of the base that served; raises `BaseError` when it is another one now."""
    try:
        folder = find_base(lock.base.name)
        found = read_base(folder).fingerprint
    except RegistryError as error:
        raise BaseError(error.message) from error
    if found != lock.base.fingerprint:
        raise BaseError(f"{folder} is not the base of then: its fingerprint is {found[:19]}…")
    return folder


def _recipe(lock: Lock, base: Path, *, data: Path, output: Path) -> Recipe:
    """The lock's recipe with today's places in it."""
    if not lock.recipe:
        raise RecipeError(["this version came without a recipe: there is nothing to run again"])
    values: dict[str, Any] = json.loads(json.dumps(lock.recipe))
    values["output"] = str(output.absolute())
    values["serve_on" if values.get("serve_on") else "base"] = str(base)
    values["tracking"] = {"report_to": []}
    problems: list[str] = []
    for part in _PARTS:
        sources = values["data"].get(part)
        if isinstance(sources, list):
            values["data"][part] = [_find(name, data, lock.data, problems) for name in sources]
    if (forgetting := values.get("forgetting")) and forgetting["data"]:
        forgetting["data"] = _find(forgetting["data"], data, lock.data, problems)
    if values["train"].get("deepspeed"):
        values["train"]["deepspeed"] = str(data / values["train"]["deepspeed"])
    if problems:
        raise DataError(problems)
    try:
        return Recipe.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as failure:
        keys = [".".join(map(str, error["loc"])) for error in failure.errors()]
        text = "`{}` of the version's recipe is not what it was: train with the Hatstand of then"
        raise RecipeError([text.format(key) for key in keys]) from failure


def _find(name: str, folder: Path, digests: Mapping[str, str], problems: list[str]) -> str:
    """A file by its name in the lock, if it has the digest of then."""
    if "://" in name:  # a dataset of the Hub, which its commit pins
        return name
    path = (folder / name).absolute()
    if not path.is_file():
        problems.append(f"{path}: no such file; name the folder of the data with --data")
    elif digests.get(name) not in (None, digest_file(path)):
        problems.append(f"{path}: has changed since the version was trained")
    return str(path)


def _compared(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield Change(name, str(before.get(name, "none")), str(now.get(name, "none")))


def _rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    """Six digits: what JSON and a sum in another order leave of a number."""
    return {name: float(f"{value:.6g}") for name, value in metrics.items()}


def _compare_tensors(before: Path, now: Path) -> tuple[list[Change], int]:
    """Tensors that differ, with how far; and how many there are in all."""
    import torch
    from safetensors.torch import load_file

    old, new = load_file(before), load_file(now)
    changes = []
    for name in sorted(old.keys() | new.keys()):
        left, right = old.get(name), new.get(name)
        if left is None or right is None or left.shape != right.shape:
            changes.append(Change(name, _shape(left), _shape(right)))
        elif not torch.equal(left, right):
            distance = float((left.float() - right.float()).norm())
            length = float(left.float().norm()) or math.nan
            changes.append(Change(name, "as it was", f"{distance / length:.2g} of its length away"))
    return changes, len(old)


def _shape(tensor: Any) -> str:
    return "none" if tensor is None else "×".join(map(str, tensor.shape))
