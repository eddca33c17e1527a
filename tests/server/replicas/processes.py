"""A registry, replicas of the server and HAProxy, each as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.server.replicas.nodes import Node
from tests.support import waiting
from tests.support.bridle import Bridle
from tests.support.ports import free_port

ROOT = Path(__file__).parents[3]
ENGINE = ("--device=cpu", "--kv-memory=4194304", "--max-rank=8", "--max-slots=2", "--drain-delay=2")


def eventually(what: str, is_so: Callable[[], bool], *, within: float = waiting.PATIENCE) -> None:
    """Wait until it is so; connections that fail meanwhile only say that it is not so yet."""
    waiting.eventually(is_so, what, within=within)


@dataclass(frozen=True)
class Process:
    """A process that answers HTTP at `url`."""

    url: str
    popen: subprocess.Popen[bytes]
    log: Path

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=60)

    def ask(self, model: str, **more: Any) -> httpx.Response:
        """One completion of two tokens, unless told otherwise."""
        body = {"model": model, "prompt": "x", "max_tokens": 2, "ignore_eos": True, **more}
        return httpx.post(f"{self.url}/v1/completions", json=body, timeout=60)

    def version_of(self, model: str) -> str:
        """The version that answers."""
        answer = self.ask(model)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-hatstand-adapter"]

    def answers(self, path: str) -> bool:
        """Whether GET is answered 200; raises once the process has ended."""
        if self.popen.poll() is not None:
            raise AssertionError(f"it has ended:\n{self.log.read_text()[-3000:]}")
        return self.get(path).status_code == 200

    def wait_ready(self) -> None:
        eventually(f"{self.url} is ready", lambda: self.answers("/readyz"))

    def terminate(self) -> None:
        self.popen.send_signal(signal.SIGTERM)


@contextmanager
def process(
    command: list[str], url: str, log: Path, more: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Runs while the context lasts, unless it ends by itself."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **(more or {})}
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env=environ, stdout=output, stderr=output) as popen,
    ):
        try:
            yield Process(url, popen, log)
        finally:
            popen.kill()


@dataclass(frozen=True)
class Fleet:
    """Where replicas get their base and adapters from, and keep what is theirs."""

    base: Path
    registry_url: str
    registry_key: str
    folder: Path
    running: ExitStack  # what is started ends with it
    bridle: Bridle

    def start(
        self, name: str, *options: str, port: int | None = None, node: Node | None = None
    ) -> Process:
        """A server with a home of its own: nothing but the registry is shared."""
        port = port or free_port()
        command = [sys.executable, "-m", "clients", "serve", f"--base={self.base}", *ENGINE]
        command += [f"--registry={self.registry_url}", f"--port={port}", *options]
        url = f"http://127.0.0.1:{port}"
        if node is not None:
            command = node.command([*command, f"--host={node.address}", "--insecure"])
            url = node.url(port)
        environ = {
            "HATSTAND_HOME": str(self.folder / name),
            "HATSTAND_REGISTRY_KEY": self.registry_key,
            **self.bridle.environment,
        }
        log = self.folder / f"{name}.log"
        return self.running.enter_context(process(command, url, log, environ))


@contextmanager
def registry_process(
    folder: Path,
    log: Path,
    *,
    node: Node | None = None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Process]:
    port = free_port()
    program = "from registry.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", f"--port={port}", f"--registry={folder}"]
    url = f"http://127.0.0.1:{port}"
    if node is not None:
        command, url = node.command([*command, f"--host={node.address}"]), node.url(port)
    with process(command, url, log, environ) as registry:
        eventually("the registry answers", lambda: registry.get("/healthz").status_code == 200)
        yield registry
