"""Files and jobs over HTTP, by OpenAI's own client where it can say it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from registry.tuning import Queue, open_queue
from registry.tuning.files import FileLimits
from server.api.app import create_app
from server.api.keys import parse_keys
from server.settings import ApiSettings
from tests.server.api.fakes import LiveServer, Site, make_site, open_client
from tests.support.waiting import PATIENCE

ROWS = (
    b'{"messages": [{"role": "user", "content": "2 + 2?"}, '
    b'{"role": "assistant", "content": "4"}]}\n'
)
JOB = {"model": "tiny-mistral", "training_file": "file-0"}


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = open_queue(tmp_path / "tuning.sqlite", limits=FileLimits(max_bytes=9 << 20))
    yield queue
    queue.close()


def tuning_site(queue: Queue, settings: ApiSettings | None = None) -> Site:
    site = make_site(settings)
    app = create_app(site.engine, site.registry, site.base, settings, queue=queue)
    return Site(site.engine, site.registry, site.base, site.readiness, app)


@pytest.fixture
def client(queue: Queue) -> Iterator[openai.OpenAI]:
    with (
        LiveServer(tuning_site(queue)) as live,
        openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def test_files_by_the_official_client(client: openai.OpenAI) -> None:
    large = ROWS * (1 << 16)  # over what other bodies may have
    stored = client.files.create(file=("rows.jsonl", large), purpose="fine-tune")
    assert (stored.filename, stored.bytes, stored.object) == ("rows.jsonl", len(large), "file")
    assert client.files.retrieve(stored.id) == stored
    assert [file.id for file in client.files.list(purpose="fine-tune")] == [stored.id]
    assert client.files.content(stored.id).read() == large
    assert client.files.delete(stored.id).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.retrieve(stored.id)
    assert caught.value.code == "file_not_found"


def test_a_job_by_the_official_client(client: openai.OpenAI, queue: Queue) -> None:
    stored = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="tiny-mistral",
        training_file=stored.id,
        suffix="sql",
        seed=7,
        metadata={"team": "data"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        extra_body={"recipe": {"lora": {"r": 4}}},
    )
    assert (job.status, job.object, job.seed) == ("queued", "fine_tuning.job", 7)
    assert job.hyperparameters.n_epochs == 2
    assert job.method is not None
    assert job.method.type == "supervised"
    assert client.fine_tuning.jobs.retrieve(job.id) == job
    assert [each.id for each in client.fine_tuning.jobs.list(metadata={"team": "data"})] == [job.id]
    assert client.fine_tuning.jobs.pause(job.id).status == "paused"
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    claims = queue.claims("test", queue.jobs.get(job.id).base_fingerprint)
    taken = claims.take()
    assert taken is not None
    assert (taken.adapter, taken.recipe) == ("sql", {"lora": {"r": 4}})
    claims.saved(taken, 3, {"train_loss": 1.5}, "sql@3")
    claims.succeed(taken, "sql@3", result_file=stored.id, trained_tokens=12)
    done = client.fine_tuning.jobs.retrieve(job.id)
    assert (done.status, done.fine_tuned_model, done.result_files) == (
        "succeeded",
        "sql@3",
        [stored.id],
    )
    [checkpoint] = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert (checkpoint.step_number, checkpoint.metrics.train_loss) == (3, 1.5)
    messages = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=2)]
    assert messages[0] == "New fine-tuned model created: sql@3"
    assert messages[-1].startswith("Created fine-tuning job")  # the client turned the pages
    with pytest.raises(openai.ConflictError, match="is succeeded"):
        client.fine_tuning.jobs.cancel(job.id)


def test_a_stream_of_events_ends_with_the_job(client: openai.OpenAI) -> None:
    stored = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="tiny-mistral", training_file=stored.id)
    url = f"{client.base_url}fine_tuning/jobs/{job.id}/events?stream=true"
    lines: list[str] = []
    with httpx.stream("GET", url, timeout=PATIENCE) as response:
        for line in response.iter_lines():
            if line.startswith("data:"):
                lines.append(line.removeprefix("data:").strip())
                if len(lines) == 1:  # it is open: what comes now must reach it
                    client.fine_tuning.jobs.cancel(job.id)
    assert lines[-1] == "[DONE]"
    assert [json.loads(line)["message"] for line in lines[:-1]] == [
        f"Created fine-tuning job: {job.id}",
        "Fine-tuning job cancelled",
    ]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"training_file": "file-0"}, "model", "missing_required_parameter"),
        ({**JOB, "model": "sql"}, "model", "invalid_value"),
        (JOB, "training_file", "file_not_found"),
        ({**JOB, "suffix": "No Good"}, "suffix", "invalid_value"),
        ({**JOB, "method": {"type": "dpo"}}, "method.type", "invalid_value"),
        ({**JOB, "integrations": [{"type": "wandb"}]}, "integrations", "invalid_value"),
        ({**JOB, "recipe": {"data": {"train": "/etc/passwd"}}}, "recipe.data", "invalid_value"),
        ({**JOB, "n_epochs": 3}, "n_epochs", "unknown_parameter"),
        ({**JOB, "hyperparameters": {"n_epochs": 60}}, "hyperparameters.n_epochs", "invalid_value"),
        (
            {**JOB, "hyperparameters": {"n_epochs": "x"}},
            "hyperparameters.n_epochs",
            "invalid_value",
        ),
    ],
)
async def test_wrong_jobs(queue: Queue, body: object, param: str, code: str) -> None:
    async with open_client(tuning_site(queue).app) as http:
        answer = await http.post("/v1/fine_tuning/jobs", json=body)
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code)
    assert answer.status_code in (400, 404)


@pytest.mark.anyio
async def test_wrong_uploads(queue: Queue) -> None:
    form = {"purpose": "fine-tune"}
    async with open_client(tuning_site(queue).app) as http:
        no_form = await http.post("/v1/files", json={})
        no_file = await http.post("/v1/files", data=form, files={"other": b"x"})
        batch = await http.post("/v1/files", data={"purpose": "batch"}, files={"file": b"x"})
        huge = await http.post("/v1/files", data=form, files={"file": b"x" * ((9 << 20) + 9)})
        limit = await http.get("/v1/files", params={"limit": 0})
    assert [r.status_code for r in (no_form, no_file, batch, limit)] == [400, 400, 400, 400]
    assert (huge.status_code, huge.json()["error"]["code"]) == (413, "file_too_large")
    assert queue.files.page() == ([], False)


def test_rows_that_cannot_be_trained_on_are_named_at_upload(
    client: openai.OpenAI, queue: Queue
) -> None:
    rows = ROWS + b'\n{"messages": []}\n' + ROWS + b'{"messages": [\n["no", "object"]\n'
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.create(file=("rows.jsonl", rows), purpose="fine-tune")
    assert (caught.value.code, caught.value.param) == ("invalid_file", "file")
    message = caught.value.body["message"]  # type: ignore[index]
    assert [part.partition(":")[0] for part in message.split("; ")] == [
        "rows.jsonl", "line 5", "line 6",
    ]  # fmt: skip
    assert message.startswith("rows.jsonl: line 3: expected a list `messages`, found `messages`")
    with pytest.raises(openai.BadRequestError, match="holds no rows"):
        client.files.create(file=("rows.jsonl", b"\n"), purpose="fine-tune")
    assert queue.files.page() == ([], False)


@pytest.mark.anyio
async def test_training_needs_a_scope_of_its_own(queue: Queue) -> None:
    keys = parse_keys(["reader-key-1", "tuner-key-22:tuning"], where="test")
    async with open_client(tuning_site(queue, ApiSettings(keys=keys)).app) as http:
        statuses = [
            (await http.get("/v1/files", headers={"Authorization": f"Bearer {key}"})).status_code
            for key in ("reader-key-1", "tuner-key-22", "wrong-key-333")
        ]
    assert statuses == [403, 200, 401]


@pytest.mark.anyio
async def test_openapi_describes_every_route_of_them(queue: Queue) -> None:
    app = tuning_site(queue).app
    async with open_client(app) as http:
        paths = set((await http.get("/openapi.json")).json()["paths"])
    routes = {route.path.replace(":path", "") for route in app.routes}  # type: ignore[attr-defined]
    assert {path for path in routes if path.startswith(("/v1/files", "/v1/fine"))} <= paths
    assert paths <= routes


@pytest.mark.anyio
async def test_without_a_queue_there_are_no_jobs() -> None:
    async with open_client(make_site().app) as http:
        answer = await http.get("/v1/fine_tuning/jobs")
    assert answer.json()["error"]["code"] == "not_found"


@pytest.mark.anyio
async def test_a_key_for_some_names_sees_the_files_and_jobs_of_its_like(queue: Queue) -> None:
    keys = parse_keys(
        ["acme-key-one:tuning::acme-*", "acme-key-two:tuning:acme:acme-*", "other-key-1:tuning::o*",
         "chief-key-11:admin"],
        where="test",
    )  # fmt: skip
    site = tuning_site(queue, ApiSettings(keys=keys))
    async with contextlib.AsyncExitStack() as stack:
        one, two, other, chief = [
            await stack.enter_async_context(
                open_client(site.app, {"Authorization": f"Bearer {key}"})
            )
            for key in ("acme-key-one", "acme-key-two", "other-key-1", "chief-key-11")
        ]
        form = {"data": {"purpose": "fine-tune"}, "files": {"file": ("rows.jsonl", ROWS)}}
        rows = (await one.post("/v1/files", **form)).json()["id"]  # type: ignore[arg-type]
        body = {"model": "tiny-mistral", "training_file": rows}
        job = (await one.post("/v1/fine_tuning/jobs", json={**body, "suffix": "acme-sql"})).json()
        claims = queue.claims("test", site.base.record.fingerprint)
        taken = claims.take()
        assert taken is not None
        results = queue.files.add("step_metrics.csv", "fine-tune-results", [b"step,loss\n"]).id
        claims.succeed(taken, "acme-sql@1", result_file=results, trained_tokens=1)
        theirs = [
            *(f"/v1/files/{file}{end}" for file in (rows, results) for end in ("", "/content")),
            *(f"/v1/fine_tuning/jobs/{job['id']}{end}" for end in ("", "/events", "/checkpoints")),
        ]
        for client, status in ((one, 200), (two, 200), (other, 404), (chief, 200)):
            assert [(await client.get(path)).status_code for path in theirs] == [status] * 7
            for path in ("/v1/files", "/v1/fine_tuning/jobs"):
                listed = (await client.get(path)).json()["data"]
                assert bool(listed) == (status == 200)
        taking = await other.post("/v1/fine_tuning/jobs", json={**body, "suffix": "own"})
        assert (taking.status_code, taking.json()["error"]["param"]) == (404, "training_file")
        for act in ("cancel", "pause", "resume"):
            assert (await other.post(f"{theirs[4]}/{act}")).status_code == 404
        streamed = await other.get(f"{theirs[4]}/events", params={"stream": "true"})
        assert streamed.status_code == 404
        assert (await other.delete(f"/v1/files/{rows}")).status_code == 404
        assert (await two.delete(f"/v1/files/{rows}")).is_success
