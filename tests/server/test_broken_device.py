"""A device that fails for good: streams are told, probes see it, and the process leaves."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.support.tiny import write_tiny_base

ROOT = Path(__file__).parents[2]
PROGRAM = """
import torch
from server.engine.executor import DirectExecutor
from clients.cli import main

launch, steps = DirectExecutor.launch, iter(range(8))

def until_it_breaks(executor, batch):
    if next(steps, None) is None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    return launch(executor, batch)

DirectExecutor.launch = until_it_breaks
main()
"""


def wait_for(url: str, server: subprocess.Popen[str]) -> None:
    for _ in range(600):
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        assert server.poll() is None, "the server left before it was ready"
        time.sleep(0.05)
    pytest.fail("the server did not start")


def test_the_process_leaves_with_an_error_once_everybody_was_told(tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "tiny", head_dim=24)  # of a shape that plain torch runs
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", PROGRAM, "serve", "--base", str(base), "--device", "cpu"]
    options = ["--registry", str(tmp_path / "registry"), "--port", str(port)]
    body = {"model": "tiny", "prompt": "hello", "max_tokens": 50, "stream": True}
    with subprocess.Popen(command + options, cwd=ROOT, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(url, server)
            with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=30) as response:
                lines = [line for line in response.iter_lines() if line]
            assert '"unavailable"' in lines[-1]
            assert len(lines) > 1
            assert server.wait(20) == 1
            assert server.stderr is not None
            log = server.stderr.read()
            assert "illegal memory access" in log
            assert "The engine stopped after an error" in log
        finally:
            server.kill()
