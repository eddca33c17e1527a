"""OpenAI's JavaScript client, driven by `openai_js/drive.mjs`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.server.api.fakes import LiveServer

SOURCE = Path(__file__).parent / "openai_js"
KEPT = Path(__file__).parents[3] / ".cache" / "tools" / "openai_js"


@pytest.fixture(scope="module")
def folder() -> Path:
    """The client as the lock file pins it, installed once and kept."""
    npm = shutil.which("npm")
    if npm is None:
        if os.environ.get("HATSTAND_REQUIRE_TOOLS"):
            pytest.fail("npm is missing")
        pytest.skip("npm is not installed")
    KEPT.mkdir(parents=True, exist_ok=True)
    for source in SOURCE.iterdir():
        if source.is_file():
            shutil.copy(source, KEPT)
    lock = (SOURCE / "package-lock.json").read_bytes()
    installed = KEPT / "installed.json"
    if not installed.is_file() or installed.read_bytes() != lock:
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=KEPT, check=True, capture_output=True, timeout=200)
        installed.write_bytes(lock)
    return KEPT


@pytest.fixture
def found(folder: Path, live: LiveServer) -> dict[str, Any]:
    done = subprocess.run(
        ["node", "drive.mjs", live.url],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def test_the_javascript_client(found: dict[str, Any], live: LiveServer) -> None:
    hello = "Hello world!"
    assert found["texts"] == [hello, hello]
    assert found["logprob"]["token"] == "?"
    assert found["adapter"] == "sql@1"
    assert (found["streamed"], found["usage"]["completion_tokens"]) == (hello, 4)
    assert found["helped"] == found["final"] == "Hello world"  # the hat of sql@2 allows 3 tokens
    assert found["completions"] == [hello, hello]
    assert found["ids"] == ["tiny-mistral", "sql", "sql@prod", "pirate"]
    assert found["one"] == "sql@prod"
    assert found["missing"] == {
        "kind": "NotFoundError",
        "status": 404,
        "code": "adapter_not_found",
        "param": "model",
    }
    assert (found["wrong"]["kind"], found["wrong"]["param"]) == ("BadRequestError", "temperature")
    assert live.site.engine.num_running == 0
