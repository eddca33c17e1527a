"""The pieces of docs/clients.md, run as they stand against a server."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.api.fakes import LiveServer, make_site

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / ".cache" / "tools" / "examples" / "bin" / "python"
PIECES = re.findall(
    r"^```(sh|python) run ?(\S*)\n(.*?)^```$",
    (ROOT / "docs" / "clients.md").read_text(),
    re.MULTILINE | re.DOTALL,
)


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    with LiveServer(make_site()) as server:
        yield server


def test_all_pieces_were_found() -> None:
    assert [needs for _, needs, _ in PIECES] == [
        "",
        "openai",
        "openai",
        "langchain_openai",
        "llama_index.llms.openai_like",
        "litellm",
        "clients",
    ]


def python_with(package: str) -> str:
    """An interpreter that has it: this one, or that of the environment that `.ci/tools` makes."""
    if not package or importlib.util.find_spec(package.partition(".")[0]) is not None:
        return sys.executable
    if not EXAMPLES.is_file():
        reason = f"{package} is not installed: .ci/tools brings it"
        if os.environ.get("HATSTAND_REQUIRE_TOOLS"):
            pytest.fail(reason)
        pytest.skip(reason)
    return str(EXAMPLES)


@pytest.mark.parametrize(("language", "needs", "code"), PIECES, ids=[p[1] or p[0] for p in PIECES])
def test_pieces_run(live: LiveServer, language: str, needs: str, code: str) -> None:
    code = code.replace("http://127.0.0.1:8000", live.url)
    command = [python_with(needs), "-c", code] if language == "python" else ["bash", "-c", code]
    # LiteLLM otherwise asks the internet for prices first.
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "Hello world!" in done.stdout
