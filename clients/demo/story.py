"""`hatstand demo`: the whole loop, run as the commands that a user would type."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from . import processes
from .asking import Round, ask_all
from .processes import StepFailed
from .tables import print_answers, print_next_steps, print_scores
from .tasks import TASKS, Task, write

BASE = "smollm2-135m"
ASKED = 8  # held-out rows of each task that are asked over HTTP
LEARNED, UNLEARNED = 0.8, 0.1  # exact match that the adapter must reach, and the base must not


def tell(*, once: bool, port: int, folder: Path, console: Console) -> None:
    """Pull, train, push, serve and ask; then keep serving unless `once`.

    Everything but the base goes into `folder`. Raises StepFailed when a step does, and when the
    adapters did not learn what they should have.
    """
    started = time.monotonic()
    registry = folder / "registry"
    recipes = write(folder)
    _say(console, 1, "The base", f"hatstand base pull {BASE}")
    processes.run("base", "pull", BASE, cwd=folder)
    for task in TASKS:
        push = ("--push", f"{task.name}@prod", "--registry", str(registry))
        words = ("train", str(recipes[task.name]), *push)
        _say(console, 2, f"An adapter: {task.description}", f"hatstand {shlex.join(words)}")
        _retire(folder / task.name)
        processes.run(*words, cwd=folder)
    serve = ("serve", "--base", BASE, "--registry", str(registry), "--port", str(port))
    _say(console, 3, "One server for all", f"hatstand {shlex.join(serve)}")
    url = f"http://127.0.0.1:{port}"
    with processes.server(serve, url=url, log=folder / "server.log") as process:
        asked = asyncio.run(_ask(url, folder))
        print_answers(console, asked)
        print_scores(console, asked, {task: _metrics(folder, task) for task in TASKS})
        console.print(f"Done in {time.monotonic() - started:.0f} s; all of it is in {folder}")
        _check(asked, {task: _metrics(folder, task) for task in TASKS})
        if not once:
            print_next_steps(console, url, TASKS, registry=registry, log=folder / "server.log")
            _serve_on(process, console)


def _say(console: Console, number: int, title: str, words: str) -> None:
    console.print()
    console.rule(f"[bold]{number}. {title}", align="left")
    console.print(f"$ {words}", style="dim", highlight=False, soft_wrap=True)


def _retire(output: Path) -> None:
    """Make way for a new run, which would take an older result's place."""
    if output.exists():
        output.rename(output.with_name(f"{output.name}-{time.time_ns()}"))


async def _ask(url: str, folder: Path) -> Round:
    questions = {task: task.heldout_rows()[:ASKED] for task in TASKS}
    hats = {task: json.loads((folder / task.name / "hat.json").read_text()) for task in TASKS}
    instructions = {task: hats[task]["system_prompt"] for task in TASKS}
    return await ask_all(url, BASE, questions, instructions)


def _metrics(folder: Path, task: Task) -> Mapping[str, Any]:
    metrics: Mapping[str, Any] = json.loads((folder / task.name / "metrics.json").read_text())
    return metrics


def _check(asked: Round, metrics: Mapping[Task, Mapping[str, Any]]) -> None:
    """The demo claims something; say so if it did not come true."""
    for task, numbers in metrics.items():
        before, after = numbers["exact_match_before"], numbers["exact_match"]
        if after < LEARNED or before > UNLEARNED:
            raise StepFailed(
                f"{task.name}: held-out exact match went from {before:.2f} to {after:.2f}; "
                f"expected at most {UNLEARNED} before and at least {LEARNED} after"
            )
    if asked.num_mixed == 0:
        raise StepFailed("no step of the engine held more than one adapter")


def _serve_on(process: Any, console: Console) -> None:
    try:
        process.wait()
    except KeyboardInterrupt:
        console.print("stopping")
        return
    raise StepFailed(f"the server ended with status {process.returncode}")


def run(*, once: bool, port: int, keep: Path | None) -> None:
    """The demo in `keep`, or in the `demo` folder of HATSTAND_HOME."""
    from registry.homes import hatstand_home

    folder = (keep or hatstand_home() / "demo").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    tell(once=once, port=port, folder=folder, console=Console())
