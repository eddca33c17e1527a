"""One process in which strangers' templates run, and what becomes of it when one runs away."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import weakref
from enum import Enum

from .errors import RegistryError

_LONGEST_ANSWER = 512 << 20
_KEPT_ENVIRONMENT = ("LANG", "LC_ALL", "LC_TIME", "TZ", "PATH", "SYSTEMROOT")


class Lost(Enum):
    """Why there is no answer; either way the child is gone."""

    LATE = "late"
    BROKEN = "broken"


class TemplateLane:
    """A child that renders, started when it is first needed and again after each that was lost.

    Whoever asks or closes holds `turn` meanwhile. seconds: what one question may take; memory: the
    bytes by which the child may grow.
    """

    def __init__(self, *, seconds: float, memory: int) -> None:
        self.turn = threading.Lock()
        self.seconds = seconds
        self._memory = memory
        self.child: subprocess.Popen[bytes] | None = None
        self._reaper: weakref.finalize[..., TemplateLane] | None = None

    def ask(self, question: bytes) -> bytes | Lost:
        """The child's line to a line. Raises `RegistryError` when no child starts."""
        child = self._living_child()
        late = threading.Event()

        def give_up() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(self.seconds, give_up)
        timer.start()
        try:
            line = _exchange(child, question)
        finally:
            timer.cancel()
            timer.join()  # what it does to the child, it has done now
        if not line.endswith(b"\n") or late.is_set():
            self.close()
        if line.endswith(b"\n"):
            return line
        return Lost.LATE if late.is_set() else Lost.BROKEN

    def close(self) -> None:
        """End the child; the next question starts another."""
        if self._reaper is not None:
            self._reaper()
        self.child = self._reaper = None

    def _living_child(self) -> subprocess.Popen[bytes]:
        if self.child is not None and self.child.poll() is None:
            return self.child
        self.close()
        kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        child = subprocess.Popen(
            [sys.executable, "-m", "registry.template_child", str(self._memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**kept, "PYTHONPATH": os.pathsep.join(sys.path)},  # and no secrets
        )
        self.child = child
        self._reaper = weakref.finalize(self, _end, child)  # at the interpreter's end at the latest
        assert child.stdout is not None
        if child.stdout.readline() != b"ready\n":
            self.close()
            raise RegistryError("the process that renders chat templates does not start")
        return child


def _exchange(child: subprocess.Popen[bytes], question: bytes) -> bytes:
    """The child's answer, cut short if the child ended."""
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(question)
        child.stdin.flush()
        return child.stdout.readline(_LONGEST_ANSWER)
    except OSError:  # it went while it was asked
        return b""


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # what was still to be written has no reader any more
                continue
