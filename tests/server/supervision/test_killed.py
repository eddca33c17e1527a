"""`hatstand serve` whose serving process is killed, or whose engine dies: it comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import openai
import pytest

from clients import Hatstand
from clients.errors import StreamFailed
from tests.support.bridle import ROOT, Bridle
from tests.support.ports import free_port
from tests.support.tiny import write_tiny_base
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks for children in /proc")
STOPPED = "the engine stopped after an error; the server's log has the details"
FOLLOWED = {"accept": "text/event-stream"}
FOR_EVER = {"ignore_eos": True}
LONG = {"model": "tiny", "prompt": "hello", "max_tokens": 400, "stream": True, **FOR_EVER}
BODY = {"model": "tiny", "prompt": "hello", "max_tokens": 50, "ignore_eos": True}


@contextmanager
def served(folder: Path, bridle: Bridle) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A supervised server, once it is ready."""
    base = write_tiny_base(folder / "tiny", head_dim=24)  # of a shape that plain torch runs
    port = free_port()
    command = [sys.executable, "-m", "clients", "serve", "--base", str(base), "--device", "cpu"]
    options = ["--registry", str(folder / "registry"), "--port", str(port), "--kv-memory=4MiB"]
    environ = {**os.environ, **bridle.environment}
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        command + options, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True
    ) as parent:
        try:
            eventually(lambda: is_ready(url, parent), "it is ready")
            yield url, parent
        finally:
            parent.kill()


def is_ready(url: str, parent: subprocess.Popen[str]) -> bool:
    assert parent.poll() is None, "the server has left"
    return httpx.get(f"{url}/readyz", timeout=PATIENCE).status_code == 200


def is_ready_anew(url: str, parent: subprocess.Popen[str], before: set[int]) -> bool:
    return is_ready(url, parent) and not before & {*children_of(parent)}


def children_of(parent: subprocess.Popen[str]) -> list[int]:
    listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text()
    return [int(number) for number in listed.split()]


def kill_under_streams(url: str, child: int) -> None:
    """Every client hears of it in the stream's own words."""
    chat = [{"role": "user", "content": "hello"}]
    with (
        httpx.stream("POST", f"{url}/v1/completions", json=LONG, timeout=PATIENCE) as plain,
        Hatstand(url) as client,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as official,
        official.completions.create(
            model="tiny", prompt="hello", max_tokens=400, stream=True, extra_body=FOR_EVER
        ) as theirs,
    ):
        opened = ExitStack()
        ours = opened.enter_context(client.stream("tiny", chat, max_tokens=400, ignore_eos=True))
        events_of = f"{url}/registry/events"
        follow = httpx.stream("GET", events_of, headers=FOLLOWED, timeout=PATIENCE)
        feed = opened.enter_context(follow).iter_lines()
        lines, chunks, events = plain.iter_lines(), iter(theirs), iter(ours)
        assert all(next(reader) for reader in (lines, chunks, events, feed))
        os.kill(child, signal.SIGKILL)
        for each in (lines, feed):
            assert '"unavailable"' in [line for line in each if line][-1]
        with pytest.raises(openai.APIError, match=STOPPED) as raised:
            list(chunks)
        assert not isinstance(raised.value, openai.APIConnectionError)
        with pytest.raises(StreamFailed, match=STOPPED), opened:
            list(events)


def test_it_comes_back_when_it_is_killed_and_when_its_engine_dies(tmp_path: Path) -> None:
    bridle = Bridle.put_on(tmp_path / "bridle")
    with served(tmp_path, bridle) as (url, parent):
        [first] = children_of(parent)
        with bridle.held():
            with bridle.slow():  # or streams may end before the last one has begun
                kill_under_streams(url, first)
            answer = refusal(url)  # the port was never closed
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["code"] == "unavailable"
            assert httpx.get(f"{url}/healthz", timeout=PATIENCE).status_code == 200
        eventually(lambda: is_ready_anew(url, parent, {first}))
        [second] = children_of(parent)

        bridle.break_soon()
        asked = {**BODY, "stream": True}
        with httpx.stream("POST", f"{url}/v1/completions", json=asked, timeout=PATIENCE) as reply:
            lines = [line for line in reply.iter_lines() if line]
        assert '"unavailable"' in lines[-1]
        assert STOPPED in lines[-1]
        assert len(lines) > 1
        eventually(lambda: is_ready_anew(url, parent, {first, second}))
        assert httpx.post(f"{url}/v1/completions", json=BODY, timeout=PATIENCE).status_code == 200

        parent.send_signal(signal.SIGTERM)
        assert parent.wait(PATIENCE) == 0
        assert parent.stderr is not None
        log = parent.stderr.read()
    assert "the serving process was ended by SIGKILL" in log
    assert "illegal memory access" in log
    assert "the serving process ended with status 1" in log


def refusal(url: str) -> httpx.Response:
    """The first whole answer after a death; connections that died with it are tried again."""
    while True:
        with suppress(httpx.TransportError):
            return httpx.post(f"{url}/v1/completions", json=BODY, timeout=PATIENCE)


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
        eventually(lambda: has_ended(number))


def has_ended(pid: int) -> bool:
    """Also where nobody has asked after it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_what_cannot_start_is_told_in_one_sentence(tmp_path: Path) -> None:
    with serve("--base", str(tmp_path / "nothing")) as parent:
        assert parent.stderr is not None
        log = parent.stderr.read()
    assert parent.returncode == 1
    assert log.startswith("error: ")
    assert "nothing" in log
    assert "Traceback" not in log
