"""The rows that an evaluation asks: a file, read as the version's own recipe reads its data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from registry.lock import Lock
from training.errors import DataError
from training.examples import Example, read_examples
from training.recipe import DataSettings


def read_rows_like(
    lock: Lock, files: Sequence[Path], changes: Mapping[str, Any], *, most: int | None
) -> tuple[Example, ...]:
    """The first `most` rows of `files`, formatted as the version was trained.

    `changes` are keys of a recipe's `data` section that differ, such as `format`. Raises
    `DataError` naming every row that is not one.
    """
    trained = {
        key: value
        for key, value in dict(lock.recipe.get("data", {})).items()
        if key in DataSettings.model_fields
    }
    paths = [str(path.expanduser().absolute()) for path in files]
    values = {**trained, **changes, "train": paths, "validation": None, "heldout": []}
    try:
        settings = DataSettings.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as failure:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in failure.errors()]
        raise DataError(problems) from failure
    return read_examples(settings).train[:most]
