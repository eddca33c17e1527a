"""Every test has a home of its own; the embedded base is pulled once and kept."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says more of who else is busy on the machine than of the code. All runs
# meet the same examples, so that none fails by chance: `--hypothesis-profile=explore` finds others.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", _PATIENT, derandomize=False)
settings.register_profile("hatstand", _PATIENT, derandomize=True)
settings.load_profile("hatstand")

# What commands print is looked at as they print it into a file, whatever surrounds the run.
for _name in ("COLUMNS", "LINES", "FORCE_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "GITHUB_ACTIONS"):
    os.environ.pop(_name, None)

# Tiny models gain nothing from a second thread, and lose much when the cores are busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Without a device kernels run in Triton's interpreter. Triton reads this when it is imported, which
# any test may do first.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

CACHE = Path(__file__).parent.parent / ".cache" / "tests"


def pytest_configure() -> None:
    """Importing what tests import makes a million objects that stay.

    Looking through them for garbage again and again was half of the time in which tests are found.
    """
    gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: of two workers none is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """From here on garbage is collected, and looked for among what tests make."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _not_at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What outlasts a test, as a module's server, keeps nothing in the user's own home either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HATSTAND_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def hatstand_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HATSTAND_HOME."""
    home = tmp_path / "home"
    monkeypatch.setenv("HATSTAND_HOME", str(home))
    return home


@pytest.fixture(autouse=True)
def _torch_seeded() -> None:
    """A test's random tensors are the same ones, whatever ran before it in this process."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def embedded_base() -> Path:
    """The embedded default as `hatstand base pull` writes it, kept between runs."""
    from server.bases import pull

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HATSTAND_HOME", str(CACHE))
        return pull("smollm2-135m")
