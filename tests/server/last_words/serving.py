"""A supervised server over a fake engine.

Answers are of as many words as were asked for, one each 5 ms, so that one of many is still to come
for as long as a test takes; to a long prompt, of words that no socket takes in one piece. A process
that begins when the base's file is there answers with three words.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from server.api.draining import DrainingServer
from server.engine.request import GenerationDelta, GenerationRequest
from server.last_words import Witness
from server.settings import Settings
from server.supervision import Notice, Tell, supervise
from tests.server.api.fakes import FakeEngine, make_site
from tests.server.replicas.processes import eventually

ROOT = Path(__file__).parents[3]
MANY, FEW = 100_000, 3  # words
HUGE = 8 << 20  # bytes of one; Linux gives a socket no more than 4 MiB by default
LONG = "x" * 100  # a prompt
_LISTENS = "0A"  # a socket's state in /proc


class WordyEngine(FakeEngine):
    def __init__(self, num_words: int) -> None:
        super().__init__(("word ",) * num_words)
        self.delay, self.max_context = 0.005, 2 * MANY

    def _delta(
        self, request: GenerationRequest, index: int, word: str, is_last: bool
    ) -> GenerationDelta:
        is_long = len(request.prompt_token_ids) >= len(LONG)
        return super()._delta(request, index, "w" * HUGE if is_long else word, is_last)


def serve_fake(
    listener: socket.socket, settings: Settings, tell: Tell, witness: Witness | None
) -> None:
    """A child's work."""
    num_words = FEW if Path(settings.base).exists() else MANY
    site = make_site(settings.api, WordyEngine(num_words))
    server = DrainingServer(
        site.app, site.readiness, drain_timeout=0, announce=lambda: tell(Notice("serving"))
    )
    assert witness is not None
    server.be_witnessed(witness)
    server.serve_out([listener])


def main(base: str) -> None:
    """The parent; it prints its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        supervise(Settings(base=base), listener, serve_fake)


@dataclass(frozen=True)
class Server:
    """The parent's process, and where its child serves."""

    port: int
    base: Path
    popen: subprocess.Popen[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def child(self) -> int:
        """The serving process."""
        pid = self.popen.pid
        [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    @property
    def num_copies(self) -> int:
        """Connections that the parent has open."""
        open_files = set()
        for file in Path(f"/proc/{self.popen.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # it was closed meanwhile
                open_files.add(str(file.readlink()))
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        fields = [line.split() for line in lines]
        return sum(f"socket:[{each[9]}]" in open_files for each in fields if each[3] != _LISTENS)

    @property
    def num_files(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.popen.pid}/fd").iterdir())

    def num_running(self) -> int:
        """Sequences, as the child counts them."""
        text = httpx.get(f"{self.url}/metrics", timeout=60).text
        [line] = [each for each in text.splitlines() if each.startswith("hatstand_sequences_run")]
        return round(float(line.split()[-1]))

    def have_the_next_be_brief(self) -> None:
        """The next serving process, that is."""
        self.base.touch()

    def wait_ready(self) -> None:
        eventually("it is ready", lambda: httpx.get(f"{self.url}/readyz").status_code == 200)


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    base = folder / "base"
    program = f"from {__name__} import main; main({str(base)!r})"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environ, stdout=subprocess.PIPE, text=True
    ) as popen:
        assert popen.stdout is not None
        try:
            server = Server(int(popen.stdout.readline()), base, popen)
            server.wait_ready()
            yield server
        finally:
            popen.terminate()
