"""A worker's process is killed in the middle of a job; another one ends it with the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import Registry
from registry.tuning import Queue, open_queue
from registry.tuning.records import JobEvent
from tests.support.waiting import eventually

from .test_jobs import add_job, run_worker

ROOT = Path(__file__).parents[3]
WEIGHTS = "adapter_model.safetensors"
LONG = {"n_epochs": 8, "batch_size": 4, "learning_rate_multiplier": "auto"}
# A worker goes no further than its first checkpoint, however late somebody comes to kill it.
SITE = """
import sys, threading
if "worker" in sys.orig_argv:
    from registry.tuning.claims import Claims
    saved = Claims.saved

    def held(*arguments, **named):
        saved(*arguments, **named)
        threading.Event().wait()

    Claims.saved = held
"""


@pytest.fixture
def queue(hatstand_home: Path) -> Iterator[Queue]:
    queue = open_queue(hatstand_home / "tuning.sqlite")
    yield queue
    queue.close()


def kill_after_a_checkpoint(queue: Queue, job_id: str, words: list[str], site: Path) -> None:
    """Start a worker and end it, with no chance to clean up, once it has written a checkpoint."""
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    worker = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)

    def has_a_checkpoint() -> bool:
        assert worker.poll() is None, "the worker ended by itself"
        return bool(queue.records.checkpoints(job_id)[0])

    try:
        eventually(has_a_checkpoint, "a checkpoint is written")
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()


def steps(events: list[JobEvent]) -> list[int]:
    """Those that were trained, in order."""
    return [each.data["step"] for each in reversed(events) if "train_loss" in each.data]


def test_a_killed_workers_job_is_taken_over_and_goes_on(
    queue: Queue, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = tmp_path / "registry"
    job = add_job(queue, tiny_base, hyperparameters=LONG)
    words = [sys.executable, "-m", "clients", "worker", "--base", str(tiny_base)]
    words += ["--registry", str(registry)]
    kill_after_a_checkpoint(queue, job.id, words, tmp_path / "site")
    left = queue.jobs.get(job.id)
    assert (left.status, left.fine_tuned_model) == ("running", None)
    before = steps(queue.records.events(job.id, limit=200)[0])
    assert before == [1, 2]
    monkeypatch.setattr("registry.tuning.claims.LEASE", 0.0)  # nobody waits a minute here
    whole = add_job(queue, tiny_base, hyperparameters=LONG)
    assert run_worker(tiny_base, registry) == 2
    assert queue.jobs.get(job.id).fine_tuned_model == "colors@1"
    assert queue.jobs.get(whole.id).fine_tuned_model == "colors@2"
    events = queue.records.events(job.id, limit=200)[0]
    assert any(f"taken over: {left.worker} has gone" in event.message for event in events)
    resumed = steps(events)[len(before) :]
    assert resumed == [*range(3, 17)]  # it went on from a checkpoint, not from the beginning
    opened = Registry.open(registry)
    first, second = (opened.resolve(f"colors@{number}").manifest.files for number in (1, 2))
    assert first[WEIGHTS].digest == second[WEIGHTS].digest
