"""What the demo tells people to try is what they can type."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest
import typer
from rich.console import Console

from clients.cli import app as hatstand
from clients.demo.tables import print_next_steps
from clients.demo.tasks import TASKS
from registry.cli import app as registry

URL = "http://127.0.0.1:8123"
PROGRAMS = {"hatstand": hatstand, "registry": registry}


@pytest.fixture
def said(tmp_path: Path) -> str:
    console = Console(file=io.StringIO(), width=60)
    folder = tmp_path / "a folder"
    print_next_steps(console, URL, TASKS, registry=folder / "registry", log=folder / "log")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_commands_are_commands(said: str) -> None:
    lines = re.findall(r"^  ((?:hatstand|registry) .*)$", said, re.M)
    typed = [shlex.split(line) for line in lines]
    assert [words[:2] for words in typed] == [["hatstand", "chat"], ["registry", "list"]]
    for program, name, *arguments in typed:
        group = typer.main.get_command(PROGRAMS[program])
        command = group.commands[name]  # type: ignore[attr-defined]
        command.make_context(name, arguments)  # wrong options are refused here


def test_the_program_is_one_and_comes_after_what_it_needs(said: str) -> None:
    before, _, after = said.partition("`pip install openai`")
    assert "OpenAI" not in before
    code = re.search(r'python -c "(.*?)"', after, re.S)
    assert code is not None
    compile(code[1], "said", "exec")
