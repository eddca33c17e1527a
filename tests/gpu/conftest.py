"""Where tests on the device keep what they load."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CACHE

RAM_DISK = Path("/dev/shm")


@pytest.fixture(autouse=True)
def _kept_kernels(hatstand_home: Path) -> None:
    """Compiled kernels outlast the test, whose home does not."""
    (CACHE / "kernels").mkdir(parents=True, exist_ok=True)
    hatstand_home.mkdir(parents=True)
    (hatstand_home / "kernels").symlink_to(CACHE / "kernels")


@pytest.fixture(scope="module")
def ram_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of which reading costs nothing, if the machine has such a place."""
    parent = RAM_DISK if RAM_DISK.is_dir() else tmp_path_factory.mktemp("disk")
    folder = Path(tempfile.mkdtemp(prefix="hatstand-", dir=parent))
    yield folder
    shutil.rmtree(folder)
