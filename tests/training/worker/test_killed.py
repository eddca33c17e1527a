"""A worker's process is killed in the middle of a job; another one ends it with the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import Registry
from registry.tuning import Queue, open_queue
from registry.tuning.records import JobEvent

from .test_jobs import add_job, run_worker

WEIGHTS = "adapter_model.safetensors"
LONG = {"n_epochs": 8, "batch_size": 4, "learning_rate_multiplier": "auto"}
PATIENCE = 120.0  # seconds, mostly for imports


@pytest.fixture
def queue(hatstand_home: Path) -> Iterator[Queue]:
    queue = open_queue(hatstand_home / "tuning.sqlite")
    yield queue
    queue.close()


def kill_after_a_checkpoint(queue: Queue, job_id: str, words: list[str], home: Path) -> None:
    """Start a worker and end it, with no chance to clean up, once it has written a checkpoint."""
    environment = {**os.environ, "HATSTAND_HOME": str(home)}
    worker = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + PATIENCE
        while not queue.records.checkpoints(job_id)[0]:
            assert worker.poll() is None, "the worker ended by itself"
            assert time.monotonic() < until, "no checkpoint came"
            time.sleep(0.02)
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()


def steps(events: list[JobEvent]) -> list[int]:
    """Those that were trained, in order."""
    return [each.data["step"] for each in reversed(events) if "train_loss" in each.data]


def test_a_killed_workers_job_is_taken_over_and_goes_on(
    queue: Queue,
    tiny_base: Path,
    tmp_path: Path,
    hatstand_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = tmp_path / "registry"
    job = add_job(queue, tiny_base, hyperparameters=LONG)
    words = [sys.executable, "-m", "clients", "worker", "--base", str(tiny_base)]
    kill_after_a_checkpoint(queue, job.id, [*words, "--registry", str(registry)], hatstand_home)
    left = queue.jobs.get(job.id)
    assert (left.status, left.fine_tuned_model) == ("running", None)
    before = steps(queue.records.events(job.id, limit=200)[0])
    assert 2 <= len(before) < 16
    monkeypatch.setattr("registry.tuning.claims.LEASE", 0.0)  # nobody waits a minute here
    whole = add_job(queue, tiny_base, hyperparameters=LONG)
    assert run_worker(tiny_base, registry) == 2
    assert queue.jobs.get(job.id).fine_tuned_model == "colors@1"
    assert queue.jobs.get(whole.id).fine_tuned_model == "colors@2"
    events = queue.records.events(job.id, limit=200)[0]
    assert any(f"taken over: {left.worker} has gone" in event.message for event in events)
    resumed = steps(events)[len(before) :]
    assert resumed[0] > 2  # it went on from a checkpoint, not from the beginning
    assert resumed[-1] == 16
    opened = Registry.open(registry)
    first, second = (opened.resolve(f"colors@{number}").manifest.files for number in (1, 2))
    assert first[WEIGHTS].digest == second[WEIGHTS].digest
