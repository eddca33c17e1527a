"""From a job to the recipe that carries it out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from registry.tuning import Job
from training.errors import RecipeError
from training.located import KeyPath, Located
from training.reading import validate
from training.recipe import Recipe

EPOCHS = 3
BATCH_SIZE = 8
LEARNING_RATE = 2e-4  # what `learning_rate_multiplier` multiplies
# What names a file here, or what a job says in OpenAI's words already.
REFUSED: Mapping[str, frozenset[str]] = {
    "train": frozenset({"deepspeed", "epochs", "batch_size", "learning_rate", "seed"}),
    "hat": frozenset({"chat_template_file"}),
    "lora": frozenset(),
    "evaluate": frozenset(),
    "forgetting": frozenset({"data"}),
}
TRAIN_FILE, VALIDATION_FILE = "training_file.jsonl", "validation_file.jsonl"


def recipe_for(job: Job, base: Path, folder: Path) -> Recipe:
    """The recipe of `job`, whose files lie in `folder`; raises `RecipeError` naming the key."""
    _check(job.recipe)
    validation = folder / VALIDATION_FILE
    data = {
        "train": [str(folder / TRAIN_FILE)],
        "validation": [str(validation)] if job.validation_file else None,
        "format": "messages",
    }
    tree: dict[str, Any] = {
        "base": str(base),
        "output": str(folder / job.adapter),
        "description": f"Trained by the job {job.id}.",
        "data": data,
        "tracking": {"report_to": []},  # the queue keeps the figures
        **{name: dict(values) for name, values in job.recipe.items()},
    }
    tree["train"] = {"save_every": "epoch", **tree.get("train", {}), **_train(job)}
    if tree["train"]["save_every"] == "never":
        raise RecipeError(
            ["recipe: `train.save_every`: a job that may be paused needs checkpoints"]
        )
    return validate(Located(tree, dict.fromkeys(_paths(tree), "recipe"), "recipe"))


def _train(job: Job) -> dict[str, Any]:
    """OpenAI's hyperparameters in a recipe's words."""
    chosen = {key: value for key, value in job.hyperparameters.items() if value != "auto"}
    return {
        "epochs": float(chosen.get("n_epochs", EPOCHS)),
        "batch_size": chosen.get("batch_size", BATCH_SIZE),
        "learning_rate": LEARNING_RATE * chosen.get("learning_rate_multiplier", 1),
        "seed": job.seed,
    }


def _check(sections: Mapping[str, Any]) -> None:
    problems = [f"recipe: `{name}`: unknown section" for name in sections if name not in REFUSED]
    problems += [
        f"recipe: `{name}.{key}`: not to be set by a job"
        for name, refused in REFUSED.items()
        for key in dict(sections.get(name, {}))
        if key in refused
    ]
    if problems:
        raise RecipeError(problems)


def _paths(tree: Mapping[str, Any], above: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key with the keys above it, so that errors can name them."""
    for key, value in tree.items():
        yield (*above, key)
        if isinstance(value, Mapping):
            yield from _paths(value, (*above, key))
