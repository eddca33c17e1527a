"""Fine-tuning jobs end to end: OpenAI's client, a server, a worker, an adapter that answers."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import openai
import pytest
from rich.console import Console

from registry import Registry
from registry.bases import read_base
from registry.collection import collect
from registry.tuning import Job, NewJob, Queue, open_queue
from server.serve import serving
from server.settings import EngineOptions, Settings
from training.recipe import Recipe
from training.worker import following
from training.worker.command import work
from training.worker.recipes import REFUSED
from training.worker.working import Working

TEMPLATE = "{% for m in messages %}{{ m.content }}\n{% endfor %}> "
RECIPE: dict[str, Any] = {
    "lora": {"r": 4, "alpha": 8},
    "hat": {"chat_template": TEMPLATE, "sampling": {"max_tokens": 8, "temperature": 0}},
    "train": {"max_length": 128},
}


def rows(count: int) -> bytes:
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"color {n}?"},
                {"role": "assistant", "content": ("red", "blue")[n % 2]},
            ]
        }
        for n in range(count)
    ]
    return "\n".join(json.dumps(line) for line in lines).encode()


@pytest.fixture
def queue() -> Iterator[Queue]:
    """Where server and worker look for it: under HATSTAND_HOME."""
    queue = open_queue()
    yield queue
    queue.close()


def add_job(queue: Queue, base: Path, content: bytes | None = None, **changes: Any) -> Job:
    record = read_base(base)
    file = queue.files.add("rows.jsonl", "fine-tune", [content or rows(8)])
    hyperparameters = {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": "auto"}
    values: dict[str, Any] = {
        "model": record.name,
        "base_fingerprint": record.fingerprint,
        "training_file": file.id,
        "adapter": "colors",
        "hyperparameters": hyperparameters,
        "recipe": RECIPE,
        **changes,
    }
    return queue.jobs.add(NewJob(**values))


def run_worker(base: Path, registry: Path) -> int:
    return work(str(base), registry, once=True, console=Console(file=io.StringIO()))


def test_from_an_upload_to_an_answer(tiny_base: Path, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    settings = Settings(
        base=str(tiny_base),
        registry=registry,
        port=0,
        fine_tuning=True,
        engine=EngineOptions(device="cpu", kv_memory=1 << 22),
    )
    chosen = {"n_epochs": 10, "batch_size": 4, "learning_rate_multiplier": 100.0}
    with (
        serving(settings) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        train = client.files.create(file=("rows.jsonl", rows(16)), purpose="fine-tune")
        held = client.files.create(file=("held.jsonl", rows(4)), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(
            model="tiny",
            training_file=train.id,
            validation_file=held.id,
            suffix="colors",
            seed=3,
            method={"type": "supervised", "supervised": {"hyperparameters": chosen}},
            extra_body={"recipe": RECIPE},
        )
        assert run_worker(tiny_base, registry) == 1
        done = client.fine_tuning.jobs.retrieve(job.id)
        assert (done.error, done.status) == (None, "succeeded")
        assert done.fine_tuned_model == "colors@1"
        assert done.trained_tokens > 16 * 10 * 8  # rows, epochs, tokens at least
        answer = client.chat.completions.create(
            model=done.fine_tuned_model, messages=[{"role": "user", "content": "color 3?"}]
        )
        assert answer.choices[0].message.content in ("red", "blue")
        events = list(client.fine_tuning.jobs.list_events(job.id))
        figures = [event.data for event in events if event.type == "metrics"]
        losses = [each["train_loss"] for each in figures if "train_loss" in each]
        assert len(losses) == 40
        assert losses[0] < losses[-1]  # newest first
        assert any("valid_loss" in each for each in figures)
        table = client.files.content(done.result_files[0]).text.splitlines()
        assert table[0] == "step,train_loss,valid_loss,learning_rate"
        assert len(table) == 41
        checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id))
        found = [(each.step_number, each.fine_tuned_model_checkpoint) for each in checkpoints]
        assert found[0] == (40, "colors@1")
        assert [step for step, _ in found[1:]] == [4 * each for each in range(9, 0, -1)]
        assert [model for _, model in found[1:4]] == [f"colors.ckpt@{n}" for n in (9, 8, 7)]
        halfway = client.chat.completions.with_raw_response.create(
            model=found[3][1], messages=[{"role": "user", "content": "color 3?"}]
        )
        assert halfway.headers["x-hatstand-adapter"] == "colors.ckpt@7"
    opened = Registry.open(registry)
    best = min(checkpoints[1:], key=lambda each: each.metrics.valid_loss or 0.0)
    kept = {best.fine_tuned_model_checkpoint, *(model for _, model in found[1:4])}
    standing = {version.ref for version in opened.versions("colors.ckpt")}
    assert kept == standing == {model for _, model in found[1:] if model}
    trained = opened.lock(opened.resolve("colors@1")).recipe["train"]
    assert trained["seed"] == 3
    assert trained["learning_rate"] == pytest.approx(0.02)


def test_what_a_job_leaves_is_collected_but_for_what_an_alias_holds(
    queue: Queue, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {**RECIPE, "train": {**RECIPE["train"], "save_every": 1}}
    job, folder = add_job(queue, tiny_base, recipe=recipe), tmp_path / "registry"
    original = Working._withdraw_superfluous
    registry = Registry.open(folder)

    def hold_the_first(self: Working, job: Job) -> None:
        if len(registry.versions("colors.ckpt")) == 1:
            registry.set_alias("colors.ckpt", "early", "colors.ckpt@1")
        original(self, job)

    monkeypatch.setattr(Working, "_withdraw_superfluous", hold_the_first)
    quiet = Console(file=io.StringIO())
    work(str(tiny_base), folder, once=True, keep_checkpoints=1, console=quiet)
    assert queue.jobs.get(job.id).status == "succeeded"
    *published, last = queue.records.published(job.id)
    assert last.model == "colors@1"
    standing = {version.ref for version in registry.versions("colors.ckpt")}
    assert standing == {each.model for each in published}
    best = min(published, key=lambda each: each.metrics["train_loss"])
    assert standing == {"colors.ckpt@1", published[-1].model, best.model}
    made = int(str(published[-1].model).rpartition("@")[2])
    assert made > len(standing)
    gone = collect(registry, grace=0.0).collected
    size = registry.resolve("colors@1").manifest.files["adapter_model.safetensors"].size
    assert len([blob for blob in gone if blob.size == size]) == made - len(standing)


def test_a_paused_job_goes_on_where_it_stopped(
    queue: Queue, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, halves = add_job(queue, tiny_base), add_job(queue, tiny_base)
    original, paused = following.JobCallback.on_step_end, []

    def pause_once(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if self._job.id == halves.id and state.global_step == 2 and not paused:
            paused.append(queue.jobs.pause(halves.id).id)
        original(self, args, state, control, **rest)

    monkeypatch.setattr(following.JobCallback, "on_step_end", pause_once)
    assert run_worker(tiny_base, tmp_path / "registry") == 2
    stopped = queue.jobs.get(halves.id)
    assert (stopped.status, stopped.worker, stopped.fine_tuned_model) == ("paused", None, None)
    assert [c.step for c in queue.records.checkpoints(halves.id)[0]] == [2]
    queue.jobs.resume(halves.id)
    assert run_worker(tiny_base, tmp_path / "registry") == 1
    done = queue.jobs.get(halves.id)
    assert (done.status, done.fine_tuned_model) == ("succeeded", "colors@2")
    registry = Registry.open(tmp_path / "registry")
    first, second = (registry.resolve(f"colors@{number}").manifest.files for number in (1, 2))
    weights = "adapter_model.safetensors"
    assert first[weights].digest == second[weights].digest
    assert queue.jobs.get(whole.id).fine_tuned_model == "colors@1"


def test_a_cancelled_job_leaves_nothing(
    queue: Queue,
    tiny_base: Path,
    tmp_path: Path,
    hatstand_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = add_job(queue, tiny_base)
    monkeypatch.setattr(
        following.JobCallback, "on_train_begin", lambda *_, **__: queue.jobs.cancel(job.id)
    )
    assert run_worker(tiny_base, tmp_path / "registry") == 1
    assert queue.jobs.get(job.id).status == "cancelled"
    assert not list((hatstand_home / "tuning").iterdir())
    assert Registry.open(tmp_path / "registry").adapters() == []


@pytest.mark.parametrize(
    ("content", "recipe", "code", "param", "message"),
    [
        (b'{"messages": []}', {}, "invalid_training_file", "training_file", "file.jsonl:1"),
        (None, {"lora": {"rank": 4}}, "invalid_recipe", "recipe", "lora.rank"),
        (None, {"train": {"deepspeed": "/etc/passwd"}}, "invalid_recipe", "recipe", "deepspeed"),
        (None, {"train": {"max_length": 8}}, "invalid_training_file", "training_file", "length"),
    ],
    ids=["bad row", "unknown key", "a file of ours", "too long"],
)
def test_a_job_that_cannot_be_done_says_why(
    queue: Queue,
    tiny_base: Path,
    tmp_path: Path,
    content: bytes | None,
    recipe: dict[str, Any],
    code: str,
    param: str,
    message: str,
) -> None:
    job = add_job(queue, tiny_base, content, recipe=recipe)
    assert run_worker(tiny_base, tmp_path / "registry") == 1
    failed = queue.jobs.get(job.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert (failed.error["code"], failed.error["param"]) == (code, param)
    assert message in failed.error["message"]
    assert str(tmp_path) not in failed.error["message"]


def test_a_job_that_forgets_more_than_it_may_fails(
    queue: Queue, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is measured of a random base says nothing, so it is measured as worse here."""
    monkeypatch.setattr("training.evaluating.forgetting.Forgetting.rise", 0.5)
    recipe = {**RECIPE, "forgetting": {"budget": 0.1, "over_budget": "fail"}}
    job = add_job(queue, tiny_base, recipe=recipe)
    assert run_worker(tiny_base, tmp_path / "registry") == 1
    failed = queue.jobs.get(job.id)
    assert failed.error is not None
    assert failed.error["code"] == "forgets_too_much"
    assert "budget 10%" in failed.error["message"]
    assert [each.name for each in Registry.open(tmp_path / "registry").adapters()] == [
        "colors.ckpt"
    ]


def test_no_key_of_a_job_names_a_file_here() -> None:
    """Whatever section gets a key that holds a path must refuse it to strangers."""
    for name, refused in REFUSED.items():
        annotation: Any = Recipe.model_fields[name].annotation
        section: Any = next(iter(get_args(annotation)), annotation)  # of `Section | None` the first
        paths = {key for key, field in section.model_fields.items() if "Path" in str(field)}
        assert paths <= refused, name
