"""Run `hatstand` commands the way a user would: as commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from clients.errors import HatstandError

READY_WITHIN = 120.0  # seconds
STOPS_WITHIN = 40.0
POLL = 0.2


class StepFailed(HatstandError):
    """A command of the demo did not work out."""


def command(*words: str) -> list[str]:
    """A `hatstand` command line in this very environment."""
    return [sys.executable, "-m", "clients", *words]


def run(*words: str, cwd: Path) -> None:
    """Run a command to its end, its output going to the terminal."""
    code = subprocess.run(command(*words), cwd=cwd, env=_environment(cwd), check=False).returncode
    if code:
        raise StepFailed(f"`hatstand {' '.join(words)}` ended with status {code}")


@contextmanager
def server(words: Sequence[str], *, url: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server process that answers at `url`; told to drain and end when the block is left."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(*words),
            cwd=log.parent,
            env=_environment(log.parent),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_ready(process, url, log)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOPS_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StepFailed(f"the server ended before it was ready:\n{log.read_text()[-2000:]}")
        try:
            if httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(POLL)
    raise StepFailed(f"the server was not ready within {READY_WITHIN:.0f} s; see {log}")


def _environment(cwd: Path) -> dict[str, str]:
    """Ours, so that a checkout that is not installed works from another folder too."""
    here = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PWD": str(cwd)}
