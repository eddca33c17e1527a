"""What holds for every command of `hatstand` and `registry`, and both in a real terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from clients.cli import app
from registry.cli import app as registry_app
from registry.keys import VERBS
from tests.server.api.fakes import LiveServer, make_site
from tests.support.tiny import write_tiny_base
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
WITHOUT_JSON = {
    "hatstand demo": "a story for people, which then serves",
    "hatstand serve": "serves",
    "hatstand worker": "serves",
    "hatstand train": "its figures are files in the output folder",
    "hatstand registry": "passes everything on to `registry`",
    "registry serve": "serves",
}


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its whole name."""

    def below(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        for word, each in (inner or {}).items():
            yield from below(f"{name} {word}", each)

    yield from below("hatstand", typer.main.get_command(app))
    yield from below("registry", typer.main.get_command(registry_app))


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_whatever_prints_data_prints_json(name: str) -> None:
    options = {option for each in COMMANDS[name].params for option in each.opts}
    assert ("--json" in options) != (name in WITHOUT_JSON)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does(name: str) -> None:
    for option in COMMANDS[name].params:
        if isinstance(option, click.Option):
            assert getattr(option, "help", None), option.opts


def test_exceptions_are_commands() -> None:
    assert COMMANDS.keys() >= WITHOUT_JSON.keys()


def test_a_keys_verbs_are_all_named() -> None:
    shown = CliRunner().invoke(registry_app, ["keys", "create", "--help"]).stdout
    assert all(verb in shown for verb in VERBS)


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    site = make_site()
    site.engine.max_context = site.base.max_context = 4096
    with LiveServer(site) as server:
        yield server


def asked(group: typer.Typer, *words: str) -> object:
    """What a command prints with --json."""
    done = CliRunner().invoke(group, [*words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_an_answer_as_json(live: LiveServer) -> None:
    answer = asked(app, "chat", "sql", "hi", "--url", live.url)
    assert isinstance(answer, dict)
    assert (answer["text"], answer["adapter"]) == ("Hello world!", "sql@1")
    assert answer["usage"]["completion"] == 4
    refused = CliRunner().invoke(app, ["chat", "sql", "--json", "--url", live.url])
    assert refused.exit_code == 2


def test_a_plan_and_a_base_as_json(tmp_path: Path) -> None:
    base = str(write_tiny_base(tmp_path / "tiny"))
    plan = asked(app, "plan", "--base", base, "--gpu-memory", "4GiB", "--adapters", "2")
    assert isinstance(plan, dict)
    assert plan["adapters"] == 2
    assert plan["kv_tokens"] >= plan["sequences"] * plan["context"] > 0
    pulled = asked(app, "base", "pull", base)
    assert isinstance(pulled, dict)
    assert pulled["name"] == "tiny"
    assert Path(pulled["folder"]).is_dir()


def test_pulled_bases_are_listed(hatstand_home: Path) -> None:
    assert asked(app, "base", "list") == []
    assert "hatstand base pull" in CliRunner().invoke(app, ["base", "list"]).stderr
    folder = write_tiny_base(hatstand_home / "bases" / "tiny")
    (hatstand_home / "bases" / ".half").mkdir()
    assert asked(app, "base", "list") == [{"name": "tiny", "folder": str(folder)}]
    assert CliRunner().invoke(app, ["base", "list"]).stdout == "tiny\n"


def test_an_adopted_key_as_json(tmp_path: Path) -> None:
    token = "hsk_" + "0" * 16 + "_" + "a" * 32
    where = ("--registry", str(tmp_path / "registry"))
    key = asked(registry_app, "keys", "adopt", "ci", "--token", token, *where)
    assert isinstance(key, dict)
    assert (key["name"], key["verbs"]) == ("ci", ["read"])
    assert token not in json.dumps(key)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which `hatstand` and `registry` are this checkout's."""
    for name, module in (("hatstand", "clients.cli"), ("registry", "registry.cli")):
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!{sys.executable}\nfrom {module} import main\nmain()\n")
        script.chmod(0o755)
    return f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("hatstand ch", {"chat"}),
        ("hatstand chat --te", {"--temperature"}),
        ("registry alias ro", {"rollback"}),
        ("registry push --al", {"--alias", "--allow-new-base"}),
    ],
)
def test_bash_completes(path: str, words: str, expected: set[str]) -> None:
    """The script that `--install-completion` writes, in bash."""
    name = words.split()[0]
    script = f"""
        eval "$(_{name.upper()}_COMPLETE=source_bash {name})"
        COMP_WORDS=({words}) COMP_CWORD={len(words.split()) - 1}
        $(complete -p {name} | sed 's/.*-F \\([^ ]*\\).*/\\1/') {name}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environ = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], env=environ, capture_output=True, text=True, check=True
    )
    assert expected <= set(done.stdout.split()), done


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "clients", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environ,
            cwd=ROOT,
        )
        os.close(theirs)
        self.shown = ""

    def expect(self, text: str) -> None:
        """Read until the text is on the screen; what comes later is read by the next call."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if select.select([self._ours], [], [], 0.1)[0]:
                self.shown += os.read(self._ours, 4096).decode("utf-8", "replace")
        self.shown = self.shown.partition(text)[2]

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def close(self) -> int:
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            os.close(self._ours)


def test_a_conversation_in_a_terminal(live: LiveServer) -> None:
    terminal = Terminal("chat", "sql", "--url", live.url)
    terminal.expect("Talking to sql.")
    terminal.type("How many?\n")
    terminal.expect("Hello world!")
    terminal.expect("sql@1")
    terminal.type("/hat sql@2\n")
    terminal.expect("Talking to sql@2.")
    terminal.type("And late ones?\n")
    terminal.expect("Hello world")
    terminal.expect("sql@2")
    terminal.type("/vs pirate\n")
    terminal.expect("both answer")
    terminal.type("Who?\n")
    terminal.expect("pirate@1")
    terminal.type("/hat nobody\n")
    terminal.expect("error:")
    terminal.type("\x04")  # Ctrl-D leaves
    assert terminal.close() == 0
