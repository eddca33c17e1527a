"""The process in which templates of strangers run: `python -m registry.template_child MEMORY`.

One question a line on stdin, one answer a line on stdout, both JSON. It opens nothing, and what it
may take of memory and of files is limited by the system, so a template can cost this process only.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from .errors import TemplateFailed
from .templates import check_template, render_chat

LONGEST_TEXT = 16 << 20  # characters: twice what a request's body may bring


def main() -> None:
    """Answer until stdin ends, which it does with the process that asks."""
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    _limit(memory=int(sys.argv[1]))
    answers.write(b"ready\n")
    answers.flush()
    for line in questions:
        answers.write(_reply(line) + b"\n")
        answers.flush()


def _reply(line: bytes) -> bytes:
    try:
        return json.dumps(_answer(json.loads(line))).encode()
    except MemoryError:
        failure = "the chat template takes too much memory for these messages"
        return json.dumps({"failure": failure, "param": "chat_template"}).encode()


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    try:
        if "messages" not in question:
            check_template(question["template"])
            return {"text": ""}
        text = render_chat(**question)
    except TemplateFailed as failure:
        return {"failure": failure.message[:1000], "param": failure.param}
    if len(text) > LONGEST_TEXT:
        return {"failure": "the chat template makes too long a text", "param": "chat_template"}
    return {"text": text}


def _limit(*, memory: int) -> None:
    """No file may grow, and the heap by `memory` bytes at most, where the system can hold that."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = Path("/proc/self/statm")
    if pages.exists():
        most = int(pages.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
