"""SIGTERM, as a process supervisor sends it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
from server.api.draining import DrainingServer
from server.api.listener import bind
from tests.server.api.fakes import make_site

site = make_site()
site.engine.words = ("a", *["b"] * int(sys.argv[1]))
site.engine.delay = 0.05
listener = bind("127.0.0.1", int(sys.argv[2]))
DrainingServer(site.app, site.readiness, drain_timeout=float(sys.argv[3]),
    drain_delay=float(sys.argv[4])).run([listener])
assert site.engine.is_stopped
print("left in peace")
"""
CHAT = {"model": "pirate", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@contextmanager
def process(
    num_words: int, drain_timeout: float, drain_delay: float = 0.0
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    numbers = map(str, (num_words, port, drain_timeout, drain_delay))
    command = [sys.executable, "-c", PROGRAM, *numbers]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url)
            yield server, url
        finally:
            server.kill()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{url}/healthz")
            return
        time.sleep(0.02)
    pytest.fail("the server did not start")


def read_stream(url: str, lines: list[str]) -> None:
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=CHAT, timeout=20) as response:
        lines.extend(line for line in response.iter_lines() if line)


def start_stream(url: str) -> tuple[threading.Thread, list[str]]:
    lines: list[str] = []
    reader = threading.Thread(target=read_stream, args=(url, lines))
    reader.start()
    while not lines:
        time.sleep(0.01)
    return reader, lines


def test_running_streams_finish_and_new_ones_are_refused() -> None:
    with process(num_words=20, drain_timeout=10) as (server, url):
        reader, lines = start_stream(url)
        server.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        refused = httpx.post(f"{url}/v1/chat/completions", json=CHAT)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        assert httpx.get(f"{url}/readyz").status_code == 503
        reader.join()
        assert lines[-1] == "data: [DONE]"
        assert server.wait(10) == 0
        assert server.stdout is not None
        assert "left in peace" in server.stdout.read()


def test_the_deadline_cuts_what_is_left() -> None:
    with process(num_words=50, drain_timeout=0.3) as (server, url):
        reader, lines = start_stream(url)
        server.send_signal(signal.SIGTERM)
        reader.join()
        assert '"unavailable"' in lines[-1]
        assert server.wait(10) == 0


def test_a_second_signal_is_the_deadline() -> None:
    with process(num_words=50, drain_timeout=60) as (server, url):
        reader, lines = start_stream(url)
        server.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        server.send_signal(signal.SIGTERM)
        reader.join()
        assert '"unavailable"' in lines[-1]
        assert server.wait(10) == 0


def test_during_the_delay_only_readiness_is_gone() -> None:
    with process(num_words=3, drain_timeout=10, drain_delay=60) as (server, url):
        server.send_signal(signal.SIGTERM)
        while httpx.get(f"{url}/readyz").status_code != 503:
            time.sleep(0.01)
        assert httpx.post(f"{url}/v1/chat/completions", json=CHAT).status_code == 200
        server.send_signal(signal.SIGTERM)  # nobody needs to wait for the rest of it
        assert server.wait(10) == 0


def test_after_the_delay_it_leaves() -> None:
    with process(num_words=3, drain_timeout=10, drain_delay=0.2) as (server, _):
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
