"""`serve run` with two replicas, as docs/kubernetes.md has it for clusters of Ray's.

In processes of its own: Ray imports much that warns, and leaves threads behind.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests.server.replicas.processes import ROOT, Process, eventually, process
from tests.server.replicas.traffic import (
    ADAPTERS,
    REPLICAS,
    SLOTS,
    TRAFFIC,
    hits_at_random,
    push_adapters,
)
from tests.support.ports import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="ray is not installed: the extra `ray`"
    ),
]
KEY = "a-key-of-sixteen-characters"
ACTIVATIONS = re.compile(r'load_seconds_count\{transition="activate"\} (\S+)')


@pytest.fixture(scope="module")
def application(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    root = tmp_path_factory.mktemp("ray")
    port, config = free_port(), root / "serve.yaml"
    arguments = {
        "base": str(base),
        "registry": str(push_adapters(root, base).folder),
        "device": "cpu",
        "replicas": REPLICAS,
        "cpus": 0.1,
        "max_slots": SLOTS,
        "max_rank": 8,
        "kv_memory": 4 << 20,
    }
    app = {"name": "hats", "route_prefix": "/", "import_path": "server.ray:app", "args": arguments}
    http = {"host": "127.0.0.1", "port": port}
    config.write_text(json.dumps({"http_options": http, "applications": [app]}))  # it is YAML too
    program = "from ray.serve.scripts import cli; cli()"
    command = [sys.executable, "-c", program, "run", str(config)]
    environ = {
        "HOME": str(root),
        "HATSTAND_HOME": str(root / "home"),
        "HATSTAND_API_KEYS": KEY,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    with process(command, f"http://127.0.0.1:{port}", root / "log", environ) as running:
        try:
            eventually("it is ready", lambda: running.answers("/readyz"))
            yield running
        finally:
            running.popen.terminate()  # takes Ray's processes with it
            running.popen.wait(120)


@pytest.fixture(scope="module")
def client(application: Process) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=application.url, timeout=60, headers=headers) as client:
        yield client


def scrape(client: httpx.Client) -> dict[str, str]:
    """The metrics of every replica; each request reaches one or the other."""
    texts: dict[str, str] = {}

    def all_seen() -> bool:
        answer = client.get("/metrics")
        texts[answer.headers["x-hatstand-replica"]] = answer.text
        return len(texts) == REPLICAS

    eventually("each replica was asked", all_seen)
    return texts


def body(model: str, tokens: int, **more: object) -> dict[str, object]:
    return {"model": model, "prompt": "x", "max_tokens": tokens, "ignore_eos": True, **more}


def test_the_documented_application_takes_its_arguments() -> None:
    """In a process of its own, since Ray warns when it is imported."""
    service = yaml.safe_load((ROOT / "docs" / "rayservice.yaml").read_text())
    (app,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    program = "import json, sys; from server.ray import app, Arguments; "
    program += "built = app(Arguments(**json.load(sys.stdin))); print(built._bound_deployment.name)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(app["args"]),
        env={**os.environ, "PYTHONPATH": str(ROOT), "HATSTAND_API_KEYS": KEY},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "Ingress", done.stderr
    assert {each["name"] for each in app["deployments"]} == {"Engine", "Ingress"}


def test_adapters_stay_where_they_are(client: httpx.Client) -> None:
    for name in TRAFFIC:
        answer = client.post("/v1/completions", json=body(name, 1))
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-hatstand-adapter"] == f"{name}@1"
    loaded = [int(float(ACTIVATIONS.findall(text)[0])) for text in scrape(client).values()]
    hits = 1 - sum(loaded) / len(TRAFFIC)
    print(f"in a slot: {hits:.1%} (loaded {loaded}); at random {hits_at_random():.1%}")
    assert min(loaded) > 0
    assert hits > hits_at_random() + 0.1


def test_a_stream_arrives_whole(client: httpx.Client) -> None:
    answer = client.post("/v1/completions", json=body("task1", 40, stream=True))
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    assert len(events) > 20
    assert events[-1] == "data: [DONE]"
    assert json.loads(events[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"


def test_errors_are_the_servers_own(client: httpx.Client) -> None:
    unknown = client.post("/v1/completions", json=body("nobody", 1))
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "adapter_not_found")
    no_key = client.post("/v1/completions", json=body("task1", 1), headers={"authorization": ""})
    assert (no_key.status_code, no_key.json()["error"]["code"]) == (401, "invalid_api_key")
    large = client.post("/v1/completions", json=body("task1", 1, user="x" * (9 << 20)))
    assert (large.status_code, large.json()["error"]["code"]) == (413, "payload_too_large")
    assert {model["id"] for model in client.get("/v1/models").json()["data"]} >= set(ADAPTERS)


def test_who_leaves_is_not_generated_for(client: httpx.Client) -> None:
    asked = body("task2", 450, n=4, stream=True)  # too much for the time until it is noticed
    with client.stream("POST", "/v1/completions", json=asked) as answer:
        next(answer.iter_lines())

    def is_idle() -> bool:
        return all("hatstand_sequences_running 0.0" in text for text in scrape(client).values())

    eventually("nothing runs", is_idle)
    tokens = "hatstand_generated_tokens_total"
    made = sum(
        float(line.split()[1])
        for text in scrape(client).values()
        for line in text.splitlines()
        if line.startswith(tokens)
    )
    assert made < len(TRAFFIC) + 40 + 4 * 450  # it was not generated to its end
