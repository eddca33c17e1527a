"""The queue of fine-tuning jobs, in SQLite and in PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.tuning import NewJob, Queue, open_queue
from registry.tuning import claims as claiming
from registry.tuning.claims import Claims
from registry.tuning.errors import (
    FileInUse,
    FileNotFound,
    FileTooLarge,
    InvalidUpload,
    JobConflict,
    JobNotFound,
    LimitReached,
)
from registry.tuning.files import PIECE, FileLimits
from tests.registry.backends import Backend

EVERY_DATABASE = True
BASE = "sha256:" + "ba5e" * 16


@pytest.fixture
def location(backend: Backend, tmp_path: Path) -> str | Path:
    return backend.database or tmp_path / "tuning.sqlite"


@pytest.fixture
def queue(location: str | Path) -> Iterator[Queue]:
    limits = FileLimits(max_bytes=3 * PIECE, max_files=3)
    queue = open_queue(location, limits=limits, max_unfinished=3)
    yield queue
    queue.close()


def new_job(queue: Queue, **changes: object) -> NewJob:
    file = queue.files.add("rows.jsonl", "fine-tune", [b"{}"])
    values = {"model": "tiny", "base_fingerprint": BASE, "training_file": file.id, "adapter": "sql"}
    return NewJob(**{**values, **changes})  # type: ignore[arg-type]


def worker(queue: Queue, name: str = "here:1") -> Claims:
    return queue.claims(name, BASE)


def test_a_file_comes_back_as_it_was(queue: Queue, tmp_path: Path) -> None:
    content = bytes(range(256)) * 6000  # more than one piece
    parts = [content[:10], content[10:777], content[777:]]
    stored = queue.files.add("rows.jsonl", "fine-tune", parts)
    assert stored.num_bytes == len(content) > PIECE
    assert queue.files.get(stored.id) == stored
    queue.files.copy_to(stored.id, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    queue.files.remove(stored.id)
    with pytest.raises(FileNotFound):
        queue.files.content(stored.id)


def test_files_have_limits(queue: Queue) -> None:
    with pytest.raises(FileTooLarge):
        queue.files.add("large", "fine-tune", [b"x" * PIECE] * 4)
    with pytest.raises(InvalidUpload, match="empty"):
        queue.files.add("empty", "fine-tune", [])
    assert queue.files.page() == ([], False)  # nothing is left of either
    for number in range(3):
        queue.files.add(f"{number}", "fine-tune", [b"x"])
    with pytest.raises(LimitReached, match="3 files"):
        queue.files.add("4", "fine-tune", [b"x"])
    queue.files.add("figures.csv", "fine-tune-results", [b"x"])  # ours do not count


def test_pages_go_from_new_to_old(queue: Queue) -> None:
    ids = [queue.files.add(f"{n}", "fine-tune", [b"x"]).id for n in range(3)]
    first, more = queue.files.page(limit=2)
    assert ([file.id for file in first], more) == ([ids[2], ids[1]], True)
    rest, more = queue.files.page(limit=2, after=ids[1])
    assert ([file.id for file in rest], more) == ([ids[0]], False)


def test_a_job_is_taken_kept_and_done(queue: Queue) -> None:
    job = queue.jobs.add(new_job(queue, labels={"team": "a"}, hyperparameters={"n_epochs": 2}))
    assert job.status == "queued"
    claims = worker(queue)
    taken = claims.take()
    assert taken is not None
    assert (taken.id, taken.status, taken.worker) == (job.id, "running", "here:1")
    assert worker(queue, "there:2").take() is None
    assert claims.keep(taken)
    claims.note(taken, "Step 1/2", data={"step": 1, "train_loss": 2.5})
    claims.saved(taken, 2, {"train_loss": 2.0})
    claims.saved(taken, 2, {"train_loss": 2.0}, "sql@1")
    claims.succeed(taken, "sql@1", result_file="file-1", trained_tokens=7)
    done = queue.jobs.get(job.id)
    assert (done.status, done.fine_tuned_model, done.trained_tokens) == ("succeeded", "sql@1", 7)
    assert (done.worker, done.hyperparameters) == (None, {"n_epochs": 2})
    assert not claims.keep(taken)
    events, _ = queue.records.events(job.id)
    assert events[0].message == "New fine-tuned model created: sql@1"
    assert events[1].data == {"step": 1, "train_loss": 2.5}
    assert [(c.step, c.model) for c in queue.records.checkpoints(job.id)[0]] == [(2, "sql@1")]
    assert queue.jobs.page(labels={"team": "a"})[0] == [done]
    assert queue.jobs.page(labels={"team": "b"})[0] == []


def test_jobs_are_taken_in_their_order_and_only_for_their_base(queue: Queue) -> None:
    first, second = queue.jobs.add(new_job(queue)), queue.jobs.add(new_job(queue))
    assert queue.claims("here", "sha256:other").take() is None
    assert [worker(queue, name).take().id for name in "ab"] == [first.id, second.id]  # type: ignore[union-attr]


def test_what_a_caller_changes_the_worker_learns_at_its_next_sign_of_life(queue: Queue) -> None:
    job = queue.jobs.add(new_job(queue))
    claims = worker(queue)
    taken = claims.take()
    assert taken is not None
    queue.jobs.pause(job.id)
    assert not claims.keep(taken)
    queue.jobs.resume(job.id)
    assert worker(queue, "there:2").take() is None  # the first has not let go of it yet
    claims.release(taken)
    again = worker(queue, "there:2").take()
    assert again is not None
    queue.jobs.cancel(job.id)
    worker(queue, "there:2").succeed(again, "sql@1", result_file="f", trained_tokens=None)
    assert queue.jobs.get(job.id).status == "cancelled"  # what was cancelled stays so
    with pytest.raises(JobConflict, match="is cancelled"):
        queue.jobs.resume(job.id)
    with pytest.raises(JobNotFound):
        queue.jobs.cancel("ftjob-0")


def test_a_lost_worker_is_replaced_a_few_times(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue.jobs.add(new_job(queue))
    now = time.time()
    lost = worker(queue, "w0")
    first = lost.take()
    assert first is not None
    for attempt in range(1, claiming.MAX_ATTEMPTS + 1):
        monkeypatch.setattr(time, "time", lambda n=attempt: now + 100 * n)
        taken = worker(queue, f"w{attempt}").take()
        assert taken is not None
        assert taken.num_attempts == attempt
        assert not lost.keep(first)
    lost.fail(first, code="x", message="too late")
    assert queue.jobs.get(job.id).status == "running"
    monkeypatch.setattr(time, "time", lambda: now + 1000)
    assert worker(queue, "last").take() is None
    failed = queue.jobs.get(job.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error["code"] == "worker_lost"


def test_a_clock_set_back_keeps_no_job_of_a_lost_worker(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.jobs.add(new_job(queue))
    assert worker(queue, "w0").take() is not None
    assert worker(queue, "w1").take() is None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 24 * 3600)
    assert worker(queue, "w1").take() is not None


def test_a_job_needs_its_files_and_the_queue_has_an_end(queue: Queue) -> None:
    with pytest.raises(FileNotFound) as caught:
        queue.jobs.add(new_job(queue, validation_file="file-0"))
    assert caught.value.param == "validation_file"
    figures = queue.files.add("figures.csv", "fine-tune-results", [b"x"])
    new = new_job(queue)
    with pytest.raises(InvalidUpload, match="fine-tune-results"):
        queue.jobs.add(new_job(queue, training_file=figures.id))
    for _ in range(3):
        job = queue.jobs.add(new)
    with pytest.raises(LimitReached, match="3 jobs"):
        queue.jobs.add(new)
    with pytest.raises(FileInUse, match="ftjob-"):
        queue.files.remove(new.training_file)
    queue.jobs.cancel(job.id)
    queue.jobs.add(new)


def test_all_of_it_survives_a_restart(queue: Queue, location: str | Path) -> None:
    job = queue.jobs.add(new_job(queue))
    queue.close()
    again = open_queue(location)
    assert again.jobs.get(job.id) == job
    assert b"".join(again.files.content(job.training_file)) == b"{}"
    again.close()


def test_owners_have_limits_of_their_own(location: str | Path) -> None:
    queue = open_queue(location, limits=FileLimits(max_files=1), max_unfinished=1)
    for owner in ("one", "other"):
        own = queue.of(owner)
        rows = own.files.add("rows.jsonl", "fine-tune", [b"{}"])
        own.jobs.add(NewJob("base", "sha256:0", rows.id, "sql"))
        with pytest.raises(LimitReached):
            own.files.add("more.jsonl", "fine-tune", [b"{}"])
        with pytest.raises(LimitReached):
            own.jobs.add(NewJob("base", "sha256:0", rows.id, "sql"))
    assert len(queue.files.page()[0]) == len(queue.jobs.page()[0]) == 2
    queue.close()
