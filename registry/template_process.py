"""Templates that strangers wrote, rendered where they can neither linger nor spread.

jinja2's sandbox keeps a template from Python's objects, but not from looping for years or from
making a string of a hundred gigabytes, at compilation already. So those that come with adapters are
compiled and rendered in processes of their own, with limits, which are replaced when they had to
go. There are two: most templates take a millisecond, and do not wait behind those that take long.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from .canonical import digest_of
from .errors import TemplateFailed, TemplatesBusy
from .template_lane import Lost, TemplateLane

QUICK = 0.25  # seconds after which a template goes where nobody else's waits for it
SECONDS = 5.0  # which it then has
MEMORY = 512 << 20
PATIENT = 4  # that may be there: each keeps a thread of the server's from others
PATIENCE = 1.0  # seconds to wait for a place; quick ones that a busy machine held up soon have one
SLOW_FOR = 600.0  # seconds for which a template that was slow is not taken for quick
PAUSE = 60.0  # seconds for which a template that failed there too is not tried at all
_MOST_MARKS = 1024


class TemplateProcess:
    """Asks the quick child, and a patient one where that was lost. Safe from any thread.

    Others wait for a template that is slow, or breaks the child, once in SLOW_FOR seconds: QUICK
    seconds and the start of a new child. That holds for each template, however many come from one
    hand.
    """

    def __init__(
        self,
        *,
        seconds: float = SECONDS,
        memory: int = MEMORY,
        pause: float = PAUSE,
        patient: int = PATIENT,
        patience: float = PATIENCE,
    ) -> None:
        self.quick = TemplateLane(seconds=min(QUICK, seconds), memory=memory)
        self.patient = TemplateLane(seconds=seconds, memory=memory)
        self._places = threading.BoundedSemaphore(patient)
        self._patience = patience
        self._slow = _Marks(SLOW_FOR)
        self._failed = _Marks(pause)

    def check(self, template: str) -> None:
        """As `templates.check_template`, with the limits of `render`."""
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
        """As `templates.render_chat`; raises `TemplateFailed` too when the limits are reached.

        Raises `TemplatesBusy` where others that are slow have taken all places.
        """
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
        """End the children; the next question starts another."""
        for lane in (self.quick, self.patient):
            with lane.turn:
                lane.close()

    def _ask(self, template: str, more: Mapping[str, Any]) -> str:
        try:
            question = json.dumps({"template": template, **more}, default=_name_of).encode() + b"\n"
        except (RecursionError, ValueError) as failure:
            raise TemplateFailed(f"these messages are no JSON: {failure}") from None
        key = digest_of(template.encode("utf-8", "surrogatepass"))
        line = self._ask_quickly(key, question) or self._ask_patiently(key, question)
        answer = json.loads(line)
        if "failure" in answer:
            raise TemplateFailed(answer["failure"], param=answer["param"])
        return str(answer["text"])

    def _ask_quickly(self, key: str, question: bytes) -> bytes | None:
        """None: by now the template is known to be slow."""
        with self.quick.turn:
            if self._slow.find(key) is not None:
                return None
            found = self.quick.ask(question)
            if isinstance(found, bytes):
                return found
            self._slow.add(key, found.value)
            return None

    def _ask_patiently(self, key: str, question: bytes) -> bytes:
        self._refuse_failed(key)
        if not self._places.acquire(timeout=self._patience):
            raise TemplatesBusy(
                "the chat template is slow, and others that are wait already: try again later",
                retry_after=self.patient.seconds,  # by then one of them has ended
            )
        try:
            with self.patient.turn:
                self._refuse_failed(key)  # as it may have while this one waited
                found = self.patient.ask(question)
                if isinstance(found, bytes):
                    return found
                took_long = f"takes more than {self.patient.seconds:g} s for these messages"
                why = took_long if found is Lost.LATE else "broke what renders it"
                self._failed.add(key, why)
                raise _refusal(why)
        finally:
            self._places.release()

    def _refuse_failed(self, key: str) -> None:
        why = self._failed.find(key)
        if why is not None:
            raise _refusal(why)


class _Marks:
    """What is said of templates, by digest, each for `seconds`; of many the oldest go."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._marks: dict[str, tuple[float, str]] = {}  # until when, and what

    def add(self, key: str, what: str) -> None:
        with self._lock:
            self._marks.pop(key, None)
            self._marks[key] = (time.monotonic() + self._seconds, what)
            if len(self._marks) > _MOST_MARKS:
                del self._marks[next(iter(self._marks))]

    def find(self, key: str) -> str | None:
        with self._lock:
            until, what = self._marks.get(key, (0.0, ""))
        return what if time.monotonic() < until else None


@lru_cache(maxsize=1)
def template_process() -> TemplateProcess:
    """This process's own; a fork gets another."""
    return TemplateProcess()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=template_process.cache_clear)


def _refusal(why: str) -> TemplateFailed:
    return TemplateFailed(f"the chat template {why}", param="chat_template")


def _name_of(value: object) -> str:
    return f"<{type(value).__name__}>"  # templates only ask whether such values are there
