"""Several processes on one registry, and processes that die in the middle of a push."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry import BaseRecord, Registry
from tests.registry.making import make_adapter

ROOT = Path(__file__).parents[2]

PUSH = """
import sys
from registry import Registry
registry = Registry.open(sys.argv[1])
for folder in sys.argv[2:]:
    print(registry.push(folder, "sql", alias="prod").digest)
"""

# Forks once per step that a push makes on the disk, and kills the child at that step.
DIE = """
import os, signal, sys
import registry.blobs, registry.candidate, registry.embedded
from registry import Registry

root, first, second = sys.argv[1:]
steps = {"left": None}

def interrupt(original):
    def step(*arguments, **named):
        if steps["left"] is not None:
            steps["left"] -= 1
            if steps["left"] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)
    return step

for module, name in [
    (os, "open"), (os, "fsync"), (os, "replace"),
    (registry.candidate, "lint"),
    (registry.embedded, "add_version"), (registry.embedded, "set_alias"),
    (registry.embedded, "replace"),
]:
    setattr(module, name, interrupt(getattr(module, name)))

import sqlalchemy.engine.default as engine
engine.DefaultDialect.do_commit = interrupt(engine.DefaultDialect.do_commit)

deaths = 0
opened = Registry.open(root)
before = opened.push(first, "sql", alias="prod")
while True:
    child = os.fork()
    if child == 0:
        steps["left"] = deaths
        Registry.open(root).push(second, "sql", alias="prod")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        assert os.waitstatus_to_exitcode(status) == 0
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
    deaths += 1
    now = Registry.open(root)
    numbers = [version.number for version in now.versions("sql")]
    if numbers == [1, 2]:  # it died after the commit: then all of it is there
        assert now.resolve("sql").number == 2
        now.files(now.resolve("sql"))
        print("committed", deaths)
        break
    assert numbers == [1], numbers
    assert now.resolve("sql") == before
    assert len(now.alias_history("sql", "prod")) == 1
    assert all(check.is_sound for check in now.verify())
print("deaths", deaths)
"""


def run(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.split()


def test_processes_push_and_open_at_once(base: BaseRecord, tmp_path: Path) -> None:
    """The registry does not exist yet: the first to come migrates it, the others wait."""
    folders = [make_adapter(tmp_path / f"a{seed}", seed=seed, lock=base) for seed in range(4)]
    root = tmp_path / "registry"
    running = [run(PUSH, root, *folders[shift:], *folders[:shift]) for shift in range(4)]
    outputs = [finish(process) for process in running]
    registry = Registry.open(root)
    versions = registry.versions("sql")
    assert [version.number for version in versions] == [1, 2, 3, 4]
    assert {*outputs[0]} == {version.digest for version in versions}
    assert all({*output} == {*outputs[0]} for output in outputs)
    assert all(check.is_sound for check in registry.verify())
    events = registry.alias_history("sql", "prod")
    assert [event.from_number for event in events[1:]] == [event.to_number for event in events[:-1]]


def test_a_push_is_resolvable_at_once_elsewhere(
    registry: Registry, adapter: Path, base: BaseRecord, tmp_path: Path
) -> None:
    registry.push(adapter, "sql")
    second = make_adapter(tmp_path / "b", seed=1, lock=base)
    (digest,) = finish(run(PUSH, registry.folder, second))
    version = registry.resolve("sql")
    assert (version.number, version.digest) == (2, digest)
    assert registry.files(version)["adapter_model.safetensors"].is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_push_leaves_the_registry_as_it_was(
    adapter: Path, base: BaseRecord, tmp_path: Path
) -> None:
    root = tmp_path / "registry"
    second = make_adapter(tmp_path / "b", seed=1, lock=base)
    words = finish(run(DIE, root, adapter, second))
    assert int(words[-1]) >= 15
    registry = Registry.open(root)
    staging = root / "blobs" / "staging"
    assert any(staging.iterdir())
    assert registry.staging.sweep(older_than=-1) > 0
    assert not any(staging.iterdir())
    version = registry.push(second, "sql", alias="prod")
    assert registry.resolve("sql") == version
    assert all(check.is_sound for check in registry.verify())


def test_a_file_system_without_locks_on_folders_takes_pushes(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS, which locks only what is open for writing."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    registry = Registry.open(tmp_path / "registry")
    left = tmp_path / "registry" / "blobs" / "staging" / "left"
    left.mkdir()
    os.utime(left, (0, 0))
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert registry.push(adapter, "sql").number == 1
    assert not left.exists()
