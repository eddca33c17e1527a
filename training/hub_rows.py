"""Rows of a dataset on the Hugging Face Hub, read by `datasets` at one commit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .data import Row
from .errors import DataError, MissingExtra
from .sources import HubDataset


def read_hub_rows(dataset: HubDataset) -> tuple[HubDataset, list[Row]]:
    """All rows of the split, and the dataset with the commit that they are of.

    Raises `MissingExtra` without the extra `data`, `DataError` when the Hub does not give them.
    """
    try:
        from datasets import Dataset, load_dataset
    except ImportError:
        raise MissingExtra("datasets", "data", "Reading a dataset of the Hub") from None
    pinned = replace(dataset, revision=_commit(dataset) or dataset.revision)
    try:
        found = load_dataset(
            dataset.repository,
            split=dataset.split,
            revision=pinned.revision,
        )
    except Exception as error:  # datasets has no tree of errors of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError([f"{dataset}: cannot be read: {reason}"]) from error
    if not isinstance(found, Dataset) or len(found) == 0:
        raise DataError([f"{dataset}: holds no rows"])
    rows: Any = found
    return pinned, [Row(f"{dataset}:{number}", fields) for number, fields in enumerate(rows, 1)]


def _commit(dataset: HubDataset) -> str | None:
    """What the revision is now; None where the Hub cannot be asked and the cache has to do."""
    from huggingface_hub import HfApi

    # Its HTTP client's own, whichever client that is.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    try:
        info = HfApi().dataset_info(dataset.repository, revision=dataset.revision, timeout=10)
    except (HTTPError, OSError):
        return None
    return info.sha
