"""Clients that connect and say nothing, send slowly, never read, or break off."""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from server.serve import serving
from tests.torture.site import make_settings, post, server_process, until_idle
from tests.torture.watching import serving_process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]
NUM_SILENT = 10_000


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(make_settings(tmp_path_factory.mktemp("site"), ["a"])) as url:
        yield url


def connect(url: str) -> socket.socket:
    place = urlsplit(url)
    assert place.hostname is not None
    assert place.port is not None
    return socket.create_connection((place.hostname, place.port), timeout=30)


def request(**more: object) -> bytes:
    body = json.dumps({"model": "a", "prompt": "x", "max_tokens": 60, "ignore_eos": True, **more})
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


@pytest.mark.skipif(sys.platform != "linux", reason="it counts open files in /proc")
def test_ten_thousand_connections_that_ask_nothing(tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * NUM_SILENT:  # the server gives them half of what it may have
        pytest.skip(f"{2 * NUM_SILENT} open files are needed and {hard} allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with server_process(make_settings(tmp_path, ["a"])) as (url, process):
        files = Path(f"/proc/{serving_process(process.pid)}/fd")
        post(url, "a")
        before = len(list(files.iterdir()))
        silent = [connect(url) for _ in range(NUM_SILENT)]
        assert post(url, "a").status_code == 200
        assert "hatstand_sequences_running" in httpx.get(f"{url}/metrics", timeout=60).text
        assert len(list(files.iterdir())) > NUM_SILENT
        for each in silent:
            each.close()
        while len(list(files.iterdir())) > before + 20:
            time.sleep(0.05)
        assert post(url, "a").status_code == 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_slow_half_and_broken_clients_cost_nobody_else(url: str) -> None:
    slow, half, deaf, broken = (connect(url) for _ in range(4))
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    whole = request()
    half.sendall(whole[:-10])
    deaf.sendall(request(stream=True, logprobs=20))
    broken.sendall(request(stream=True))
    assert broken.recv(20).startswith(b"HTTP/1.1 200")
    reset = struct.pack("ii", 1, 0)
    broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    broken.close()
    for at in range(3):  # a byte a second
        slow.sendall(whole[at : at + 1])
        assert post(url, "a").status_code == 200
        time.sleep(1)
    slow.sendall(whole[3:])
    assert slow.recv(20).startswith(b"HTTP/1.1 200")  # slow, but right
    for each in (slow, half, deaf):
        each.close()
    until_idle(url)
    assert post(url, "a").status_code == 200
