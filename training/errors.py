"""What can go wrong while training, as one tree; each message says what to change.

TrainingError
├── RecipeError          a wrong key, type or value in a recipe or in `--set`
├── DataError            rows that cannot be trained on; every bad row is named
├── BaseError            the base model is not there or cannot be trained on
├── OutputError          the output folder is in the way
├── MissingExtra         a package of an extra is not installed
├── TrainingDiverged     the loss is no longer a number
├── TrainingStopped      whoever asked for the run no longer wants it
├── ForgetsTooMuch       an adapter is over its budget on general text
└── PushError            the adapter is there, but the registry did not take it
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_PROBLEMS_SHOWN = 20


class TrainingError(Exception):
    """Base of the tree. The command line prints `message` and no traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class _Listed(TrainingError):
    """Many problems found in one pass, the first ones shown."""

    def __init__(self, problems: Sequence[str]) -> None:
        shown = list(problems[:MAX_PROBLEMS_SHOWN])
        if len(problems) > len(shown):
            shown.append(f"… and {len(problems) - len(shown)} more")
        super().__init__("\n".join(shown))
        self.problems = tuple(problems)


class RecipeError(_Listed):
    """The recipe is not one: each problem names file, line and key."""


class DataError(_Listed):
    """The data cannot be trained on: each problem names file and line."""


class BaseError(TrainingError):
    """The base model cannot be found or is not one that can be trained on."""


class OutputError(TrainingError):
    """The output folder exists and holds something else than an earlier adapter."""


class MissingExtra(TrainingError):
    """Training needs packages that the base install leaves out."""

    def __init__(self, package: str, extra: str = "training", needed_by: str = "Training") -> None:
        super().__init__(
            f"{needed_by} needs the package `{package}`, which is not installed. "
            f"Install it with: pip install 'hatstand[{extra}]'"
        )


class TrainingDiverged(TrainingError):
    """The loss became infinite or not a number; nothing was written."""


class TrainingStopped(TrainingError):
    """A run was told to stop; its checkpoints stay, and nothing else was written."""


class ForgetsTooMuch(TrainingError):
    """General text became less likely under the adapter than its budget allows."""


class PushError(TrainingError):
    """The adapter folder was written, but could not become a version."""
