"""The arguments that the chart writes are ones that `hatstand` takes."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys

import pytest

from .chart import pod, render, server

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("clients.cli") is None, reason="the command line is not there yet"
)


def hatstand_help(*command: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", "from clients.cli import main; main()", *command, "--help"],
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("auth", [{"existingSecret": "my-keys"}, {"insecure": True}])
def test_serve_takes_every_option(auth: dict[str, object]) -> None:
    command, *options = server(render({"auth": auth}))["args"]
    known = set(re.findall(r"--[a-z][a-z0-9-]*", hatstand_help(command)))
    assert {option.partition("=")[0] for option in options} <= known


def test_the_init_container_pulls() -> None:
    (puller,) = pod(render())["spec"]["initContainers"]
    *command, name = puller["args"]
    assert command == ["base", "pull"]
    assert not name.startswith("-")
    assert hatstand_help(*command)
