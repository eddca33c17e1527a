"""OpenAI's JavaScript client, brought from npm once and kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "tests" / "server" / "api" / "openai_js"
KEPT = ROOT / ".cache" / "tools" / "openai_js"


def installed() -> Path:
    """The folder of the client at the versions of the lock file; skips the test without npm."""
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
    mark = KEPT / "installed.json"
    if not mark.is_file() or mark.read_bytes() != lock:
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=KEPT, check=True, capture_output=True, timeout=200)
        mark.write_bytes(lock)
    return KEPT


def drive(script: str, url: str) -> dict[str, Any]:
    """What one of the scripts printed about the server at `url`."""
    done = subprocess.run(
        ["node", script, url],
        cwd=installed(),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    values: dict[str, Any] = json.loads(done.stdout)
    return values
