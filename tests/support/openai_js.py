"""OpenAI's JavaScript client, driven by the scripts beside its package.json."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.npm import installed

SOURCE = Path(__file__).parents[1] / "server" / "api" / "openai_js"


def drive(script: str, url: str) -> dict[str, Any]:
    """What one of the scripts printed about the server at `url`."""
    done = subprocess.run(
        ["node", script, url],
        cwd=installed(SOURCE),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    values: dict[str, Any] = json.loads(done.stdout)
    return values
