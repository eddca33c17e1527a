"""`hatstand serve` whose serving process is killed, or whose engine dies: it comes back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import openai
import pytest

from clients import Hatstand
from clients.errors import StreamFailed
from tests.support.tiny import write_tiny_base

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks for children in /proc")
ROOT = Path(__file__).parents[3]
FAULT = """
import os, pathlib, sys, time
if "server.supervision.inside" in sys.orig_argv:
    import torch
    from server.engine.executor import DirectExecutor
    launch, steps = DirectExecutor.launch, iter(range(8))
    fault, slow = (pathlib.Path(__file__).with_name(name) for name in ("fault", "slow"))

    def until_it_breaks(executor, batch):
        if fault.exists() and next(steps, None) is None:
            fault.unlink()
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        if slow.exists():
            time.sleep(0.02)
        return launch(executor, batch)

    DirectExecutor.launch = until_it_breaks
"""
FOR_EVER = {"ignore_eos": True}
LONG = {"model": "tiny", "prompt": "hello", "max_tokens": 400, **FOR_EVER}
BODY = {"model": "tiny", "prompt": "hello", "max_tokens": 50, "ignore_eos": True}


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A supervised server, once it is ready.

    Its engine breaks after 8 steps if `fault` exists, and takes 20 ms for each if `slow` does.
    """
    base = write_tiny_base(folder / "tiny", head_dim=24)  # of a shape that plain torch runs
    (folder / "sitecustomize.py").write_text(FAULT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "clients", "serve", "--base", str(base), "--device", "cpu"]
    options = ["--registry", str(folder / "registry"), "--port", str(port), "--kv-memory=4MiB"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        command + options, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True
    ) as parent:
        try:
            eventually(lambda: is_ready(url, parent))
            yield url, parent
        finally:
            parent.kill()


def eventually(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_ready(url: str, parent: subprocess.Popen[str]) -> bool:
    assert parent.poll() is None, "the server has left"
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz", timeout=10).status_code == 200
    return False


def children_of(parent: subprocess.Popen[str]) -> list[int]:
    listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text()
    return [int(number) for number in listed.split()]


def kill_under_streams(url: str, child: int) -> None:
    """No client takes what it has got by then for the whole answer."""
    chat = [{"role": "user", "content": "hello"}]
    with (
        httpx.stream("POST", f"{url}/v1/completions", json={**LONG, "stream": True}) as plain,
        Hatstand(url) as client,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as official,
        official.completions.create(
            model="tiny", prompt="hello", max_tokens=400, stream=True, extra_body=FOR_EVER
        ) as theirs,
    ):
        opened = ExitStack()
        ours = opened.enter_context(client.stream("tiny", chat, max_tokens=400, ignore_eos=True))
        lines, chunks, events = plain.iter_lines(), iter(theirs), iter(ours)
        assert all(next(reader) for reader in (lines, chunks, events))
        os.kill(child, signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            list(lines)
        with pytest.raises((openai.APIError, httpx.TransportError)):
            list(chunks)
        with pytest.raises(StreamFailed, match="broke"), opened:
            list(events)


def test_it_comes_back_when_it_is_killed_and_when_its_engine_dies(tmp_path: Path) -> None:
    with served(tmp_path) as (url, parent):
        [first] = children_of(parent)
        (tmp_path / "slow").touch()  # or streams may end before the last one has begun
        kill_under_streams(url, first)
        (tmp_path / "slow").unlink()
        answer = refusal(url)  # the port was never closed
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["code"] == "unavailable"
        assert httpx.get(f"{url}/healthz").status_code == 200
        eventually(lambda: is_ready(url, parent))
        [second] = children_of(parent)
        assert second != first

        (tmp_path / "fault").touch()
        with httpx.stream("POST", f"{url}/v1/completions", json={**BODY, "stream": True}) as reply:
            lines = [line for line in reply.iter_lines() if line]
        assert '"unavailable"' in lines[-1]
        assert len(lines) > 1
        eventually(lambda: is_ready(url, parent))
        assert children_of(parent)[0] not in (first, second)
        assert httpx.post(f"{url}/v1/completions", json=BODY, timeout=30).status_code == 200

        parent.send_signal(signal.SIGTERM)
        assert parent.wait(30) == 0
        assert parent.stderr is not None
        log = parent.stderr.read()
    assert "the serving process was ended by SIGKILL" in log
    assert "illegal memory access" in log
    assert "the serving process ended with status 1" in log


def refusal(url: str) -> httpx.Response:
    """The first whole answer after a death; connections that died with it are tried again."""
    while True:
        with suppress(httpx.TransportError):
            return httpx.post(f"{url}/v1/completions", json=BODY, timeout=30)


def serve(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "clients", "serve", "--port", "0", *options]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def test_without_its_parent_it_leaves(tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "tiny")
    with serve("--base", str(base), "--registry", str(tmp_path / "registry")) as parent:
        try:
            eventually(lambda: bool(children_of(parent)))
            (number,) = children_of(parent)
        finally:
            parent.kill()
        child = Path(f"/proc/{number}/stat")
        eventually(lambda: not child.exists() or child.read_text().split()[2] == "Z")


def test_what_cannot_start_is_told_in_one_sentence(tmp_path: Path) -> None:
    with serve("--base", str(tmp_path / "nothing")) as parent:
        assert parent.stderr is not None
        log = parent.stderr.read()
    assert parent.returncode == 1
    assert log.startswith("error: ")
    assert "nothing" in log
    assert "Traceback" not in log
