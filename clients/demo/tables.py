"""What the demo prints."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .asking import Exchange, Round
from .tasks import Task

SHOWN = 4  # exchanges of each task
LONGEST = 160  # characters of an answer


def print_answers(console: Console, asked: Round) -> None:
    """Question, base answer and adapter answer side by side."""
    table = Table(title="The same held-out questions, in one batch", show_lines=True)
    for heading in ("adapter", "question", "base answers", "adapter answers"):
        table.add_column(heading, overflow="fold")
    shown: dict[Task, int] = {}
    for exchange in asked.exchanges:
        shown[exchange.task] = shown.get(exchange.task, 0) + 1
        if shown[exchange.task] <= SHOWN:
            table.add_row(
                exchange.adapter.adapter,
                exchange.row.question,
                _answer(exchange.base.text, right=exchange.base_is_right),
                _answer(exchange.adapter.text, right=exchange.adapter_is_right),
            )
    console.print(table)


def print_scores(console: Console, asked: Round, metrics: Mapping[Task, Mapping[str, Any]]) -> None:
    """Exact match before and after, speed, and the proof that adapters shared steps."""
    table = Table(title="Exact match on rows that training never saw")
    for heading in ("adapter", "held-out rows", "before", "after", "asked over HTTP", "base",
                    "adapter", "training"):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "adapter" else "right")
    for task, numbers in metrics.items():
        exchanges = [exchange for exchange in asked.exchanges if exchange.task is task]
        table.add_row(
            exchanges[0].adapter.adapter,
            f"{numbers['heldout_rows']:.0f}",
            f"{numbers['exact_match_before']:.2f}",
            f"[bold]{numbers['exact_match']:.2f}",
            f"{len(exchanges)}",
            _share(exchanges, [exchange.base_is_right for exchange in exchanges]),
            _share(exchanges, [exchange.adapter_is_right for exchange in exchanges]),
            f"{sum(numbers['seconds'].values()):.0f} s",
        )
    console.print(table)
    mixed = ", ".join(f"{label}: {tokens}" for label, tokens in asked.mixed.items())
    console.print(
        f"{2 * len(asked.exchanges)} requests at once: {asked.completion_tokens} tokens in "
        f"{asked.seconds:.1f} s, {asked.completion_tokens / asked.seconds:.0f} tok/s\n"
        f"{asked.num_mixed} of the engine's last {asked.num_steps} steps mixed adapters; "
        f"tokens in the most mixed one: {{{mixed}}}",
        highlight=False,
    )


def print_next_steps(
    console: Console, url: str, tasks: Sequence[Task], *, registry: Path, log: Path
) -> None:
    """What to try while the server runs."""
    task = tasks[0]
    question = task.heldout_rows()[0].question
    console.print(
        f"""
Serving on {url} until Ctrl-C (log: {log}); {url}/ in a browser is the console.
Try in another terminal{_activation()}:

  hatstand chat {task.name} "{question}" --url {url}

  registry list --registry {shlex.quote(str(registry))}

  curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{{"model": "{task.name}", "messages": [{{"role": "user", "content": "{question}"}}]}}'

and after `pip install openai`:

  python -c "from openai import OpenAI; print(OpenAI(base_url='{url}/v1', api_key='-')
    .chat.completions.create(model='{task.name}', messages=[{{'role': 'user',
    'content': '{question}'}}]).choices[0].message.content)"
""",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _activation() -> str:
    """How the commands come on the path of a shell that does not find them there."""
    script = Path(sys.executable).with_name("activate")
    if shutil.which("hatstand") or not script.is_file():
        return ""
    return f", after `. {shlex.quote(str(script))}`"


def _answer(text: str, *, right: bool) -> Text:
    text = " ".join(text.split())
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return Text(cut, style="green" if right else "red")


def _share(exchanges: Sequence[Exchange], right: Sequence[bool]) -> str:
    return f"{sum(right) / len(exchanges):.2f}"
