"""Clients that connect and say nothing, send slowly, never read, or break off."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from server.serve import serving
from tests.torture.site import make_settings, post, until_idle

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]
NUM_SILENT = 2000


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
def test_two_thousand_connections_that_ask_nothing(url: str) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * NUM_SILENT + 500  # both ends are in this process
    if hard < needed:
        pytest.skip(f"{needed} open files are needed and {hard} allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    post(url, "a")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (a count, no paths)
    silent = [connect(url) for _ in range(NUM_SILENT)]
    assert post(url, "a").status_code == 200
    for each in silent:
        each.close()
    while len(os.listdir("/proc/self/fd")) > before + 20:  # noqa: PTH208
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
