"""Templates that strangers wrote, rendered where they can neither linger nor spread.

jinja2's sandbox keeps a template from Python's objects, but not from looping for years or from
making a string of a hundred gigabytes, at compilation already. So those that come with adapters are
compiled and rendered in a process of their own, with limits, which is replaced when it had to go.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from .canonical import digest_of
from .errors import RegistryError, TemplateFailed

SECONDS = 5.0
MEMORY = 512 << 20
PAUSE = 60.0  # seconds for which a template that went over its time is not tried again
MOST_PAUSED = 1024
_LONGEST_ANSWER = 512 << 20
_KEPT_ENVIRONMENT = ("LANG", "LC_ALL", "LC_TIME", "TZ", "PATH", "SYSTEMROOT")


class TemplateProcess:
    """One child that renders, a template at a time; started when it is first needed."""

    def __init__(
        self, *, seconds: float = SECONDS, memory: int = MEMORY, pause: float = PAUSE
    ) -> None:
        self._seconds = seconds
        self._memory = memory
        self._pause = pause
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._reaper: weakref.finalize[..., TemplateProcess] | None = None
        self._paused: dict[str, float] = {}

    def check(self, template: str) -> None:
        """As `templates.check_template`."""
        self._ask(template, {})

    def render(
        self,
        template: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool,
        bos_token: str | None,
        eos_token: str | None,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """As `templates.render_chat`; raises `TemplateFailed` too when the limits are reached."""
        return self._ask(
            template,
            {
                "messages": list(messages),
                "add_generation_prompt": add_generation_prompt,
                "bos_token": bos_token,
                "eos_token": eos_token,
                "tools": tools,
            },
        )

    def close(self) -> None:
        """End the child; the next question starts another."""
        with self._lock:
            self._end_child()

    def _ask(self, template: str, more: Mapping[str, Any]) -> str:
        try:
            question = json.dumps({"template": template, **more}, default=_name_of).encode()
        except (RecursionError, ValueError) as failure:
            raise TemplateFailed(f"these messages are no JSON: {failure}") from None
        key = digest_of(template.encode("utf-8", "surrogatepass"))
        with self._lock:
            if time.monotonic() < self._paused.get(key, 0):
                raise _too_slow(self._seconds)
            line, is_late = self._exchange(question + b"\n")
            if not line.endswith(b"\n"):
                self._end_child()
                if not is_late:
                    raise TemplateFailed("the chat template broke what renders it")
                self._put_aside(key)
                raise _too_slow(self._seconds)
        answer = json.loads(line)
        if "failure" in answer:
            raise TemplateFailed(answer["failure"], param=answer["param"])
        return str(answer["text"])

    def _exchange(self, question: bytes) -> tuple[bytes, bool]:
        """The child's line, cut short if it had to end; and whether it took too long."""
        child = self._living_child()
        assert child.stdin is not None
        assert child.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(self._seconds, give_up)
        timer.start()
        try:
            child.stdin.write(question)
            child.stdin.flush()
            return child.stdout.readline(_LONGEST_ANSWER), late.is_set()
        except OSError:  # it went while it was asked
            return b"", late.is_set()
        finally:
            timer.cancel()

    def _living_child(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self._end_child()
        kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        child = subprocess.Popen(
            [sys.executable, "-m", "registry.template_child", str(self._memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**kept, "PYTHONPATH": os.pathsep.join(sys.path)},  # and no secrets
        )
        self._child = child
        self._reaper = weakref.finalize(self, _end, child)  # at the interpreter's end at the latest
        assert child.stdout is not None
        if child.stdout.readline() != b"ready\n":
            self._end_child()
            raise RegistryError("the process that renders chat templates does not start")
        return child

    def _end_child(self) -> None:
        if self._reaper is not None:
            self._reaper()
        self._child = self._reaper = None

    def _put_aside(self, key: str) -> None:
        now = time.monotonic()
        self._paused = {each: end for each, end in self._paused.items() if end > now}
        if len(self._paused) >= MOST_PAUSED:
            del self._paused[next(iter(self._paused))]
        self._paused[key] = now + self._pause


@lru_cache(maxsize=1)
def template_process() -> TemplateProcess:
    """This process's own; a fork gets another."""
    return TemplateProcess()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=template_process.cache_clear)


def _too_slow(seconds: float) -> TemplateFailed:
    return TemplateFailed(
        f"the chat template takes more than {seconds:g} s for these messages",
        param="chat_template",
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # what was still to be written has no reader any more
                continue


def _name_of(value: object) -> str:
    return f"<{type(value).__name__}>"  # templates only ask whether such values are there
