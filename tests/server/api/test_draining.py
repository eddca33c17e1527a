"""SIGTERM, as a process supervisor sends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.ports import free_port
from tests.support.waiting import PATIENCE, eventually

ROOT = Path(__file__).parents[3]
PROGRAM = """
import asyncio, signal, sys
from server.api.draining import DrainingServer
from server.api.listener import bind
from tests.server.api.fakes import make_site

site = make_site()
site.engine.gate = asyncio.Event()
signal.signal(signal.SIGUSR1, lambda *_: site.engine.gate.set())
listener = bind("127.0.0.1", int(sys.argv[1]))
DrainingServer(site.app, site.readiness, drain_timeout=float(sys.argv[2]),
    drain_delay=float(sys.argv[3])).run([listener])
assert site.engine.is_stopped
print("left in peace")
"""
FINISH = signal.SIGUSR1  # answers stop after their first word until this was sent
CHAT = {"model": "pirate", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@contextmanager
def process(
    *, drain_timeout: float = PATIENCE, drain_delay: float = 0.0
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port = free_port()
    command = [sys.executable, "-c", PROGRAM, *map(str, (port, drain_timeout, drain_delay))]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            eventually(lambda: httpx.get(f"{url}/healthz"), "the server starts")
            yield server, url
        finally:
            server.kill()


def start_stream(url: str) -> tuple[threading.Thread, list[str]]:
    """Who reads a stream that has begun, and the lines that came."""
    lines: list[str] = []

    def read() -> None:
        asked = f"{url}/v1/chat/completions"
        with httpx.stream("POST", asked, json=CHAT, timeout=PATIENCE) as response:
            lines.extend(line for line in response.iter_lines() if line)

    reader = threading.Thread(target=read)
    reader.start()
    eventually(lambda: lines, "the stream begins")
    return reader, lines


def ask(url: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json=CHAT, timeout=PATIENCE)


def is_leaving(url: str) -> bool:
    return httpx.get(f"{url}/readyz", timeout=PATIENCE).status_code == 503


def test_running_streams_finish_and_new_ones_are_refused() -> None:
    with process() as (server, url):
        reader, lines = start_stream(url)
        server.send_signal(signal.SIGTERM)
        eventually(lambda: is_leaving(url))
        refused = ask(url)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        server.send_signal(FINISH)
        reader.join()
        assert lines[-1] == "data: [DONE]"
        assert server.wait(PATIENCE) == 0
        assert server.stdout is not None
        assert "left in peace" in server.stdout.read()


def test_the_deadline_cuts_what_is_left() -> None:
    with process(drain_timeout=0.3) as (server, url):
        reader, lines = start_stream(url)
        server.send_signal(signal.SIGTERM)
        reader.join()
        assert '"unavailable"' in lines[-1]
        assert server.wait(PATIENCE) == 0


def test_a_second_signal_is_the_deadline() -> None:
    with process() as (server, url):
        reader, lines = start_stream(url)
        server.send_signal(signal.SIGTERM)
        eventually(lambda: is_leaving(url))  # two that come at once may be taken for one
        server.send_signal(signal.SIGTERM)
        reader.join()
        assert '"unavailable"' in lines[-1]
        assert server.wait(PATIENCE) == 0


def test_during_the_delay_only_readiness_is_gone() -> None:
    with process(drain_delay=PATIENCE) as (server, url):
        server.send_signal(FINISH)
        server.send_signal(signal.SIGTERM)
        eventually(lambda: is_leaving(url))
        assert ask(url).status_code == 200
        server.send_signal(signal.SIGTERM)  # nobody needs to wait for the rest of it
        assert server.wait(PATIENCE) == 0


def test_after_the_delay_it_leaves() -> None:
    with process(drain_delay=0.2) as (server, _):
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0
