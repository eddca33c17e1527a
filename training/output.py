"""The adapter folder: whole or not there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError

# What an earlier run left; a folder with these may be replaced, any other may not.
_MARKS = ("adapter_config.json", "recipe.yaml")


def check_output(folder: Path) -> None:
    """Raise `OutputError` if `folder` holds something that no earlier run wrote."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"`output`: {folder} is a file")
    if any(folder.iterdir()) and not all((folder / mark).is_file() for mark in _MARKS):
        raise OutputError(
            f"`output`: {folder} holds files of something else; name a new folder or empty this one"
        )


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary sibling of `folder` to write into, which becomes `folder` at the end.

    When the body raises, the sibling is removed and `folder` is as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
    try:
        yield partial
        partial.chmod(0o755)  # mkdtemp's own mode would hide it from other users
        if folder.exists():
            former = Path(tempfile.mkdtemp(prefix=f".{folder.name}.former-", dir=folder.parent))
            folder.rename(former / folder.name)
            partial.rename(folder)
            shutil.rmtree(former, ignore_errors=True)
        else:
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
