"""`hatstand` and `registry` completed by real shells: bash, and zsh and fish where installed."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from registry import Registry
from registry.commands.completing import join_words
from tests.registry.making import TINY_BASE, make_adapter
from tests.server.api.fakes import LiveServer, make_site
from tests.support.waiting import PATIENCE, eventually

PROGRAMS = {"hatstand": "clients.cli", "registry": "registry.cli"}
# What bash does at TAB, by hand: the words, broken where readline breaks them.
BASH = """
complete_here() {{
  COMP_LINE=$1; COMP_POINT=${{#1}}
  mapfile -t COMP_WORDS <<<"$2"
  COMP_CWORD=$3; COMPREPLY=()
  {function} "${{COMP_WORDS[0]}}"
  printf '%s\\n' "${{COMPREPLY[@]}}"
}}
complete_here "$@"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with `sql` (two versions, prod and canary) and `pirate`, and both programs."""
    root = tmp_path_factory.mktemp("completion")
    registry = Registry.open(root / "registry")
    for seed, (name, alias) in enumerate(
        [("sql", "prod"), ("sql", "canary"), ("pirate", "prod"), ("spell", None)]
    ):
        adapter = make_adapter(root / f"a{seed}", seed=seed, lock=TINY_BASE)
        registry.push(adapter, name, alias=alias)
    (root / "bin").mkdir()
    for name, module in PROGRAMS.items():
        script = root / "bin" / name
        script.write_text(f"#!{sys.executable}\nfrom {module} import main\nmain()\n")
        script.chmod(0o755)
    for name in PROGRAMS:
        (root / f"{name}.bash").write_text(script_of(root, name, "bash"))
    return root


def script_of(home: Path, program: str, shell: str) -> str:
    """What `--install-completion` installs."""
    asked = {f"_{program.upper()}_COMPLETE": f"source_{shell}"}
    done = subprocess.run(
        [str(home / "bin" / program)],
        env={**environment(home), **asked},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    return done.stdout


def environment(home: Path) -> dict[str, str]:
    return {
        "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "HATSTAND_REGISTRY": str(home / "registry"),
        "HATSTAND_HOME": str(home),
        "HOME": str(home),
    }


def in_bash(home: Path, *words: str) -> list[str]:
    """What bash offers for the last word."""
    program = words[0]
    function = f"_{program}_completion"
    script = f"source {home / program}.bash\n" + BASH.format(function=function)
    line = " ".join(words)
    broken = [part for word in words for part in broken_at(word)]
    command = ["bash", "-c", script, "bash", line, "\n".join(broken), str(len(broken) - 1)]
    done = subprocess.run(
        command,
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.stderr == ""
    return done.stdout.split()


def broken_at(word: str) -> Sequence[str]:
    """`sql@pr` as bash has it in COMP_WORDS: `sql`, `@`, `pr`."""
    name, at, rest = word.partition("@")
    return [name, at, *([rest] if rest else [])] if at else [word]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("hatstand", "regi"), {"registry"}),
        (("hatstand", "registry", "al"), {"alias"}),
        (("hatstand", "registry", "alias", ""), {"set", "history", "rollback"}),
        (("hatstand", "registry", "show", "s"), {"sql", "spell"}),
        (("hatstand", "registry", "show", "sql@"), {"@prod", "@canary", "@1", "@2"}),
        (("hatstand", "registry", "show", "sql@pr"), {"@prod"}),
        (("registry", "alias", "set", "p"), {"pirate"}),
        (("registry", "alias", "rollback", "sql", "c"), {"canary"}),
        (("registry", "alias", "set", "sql", "prod", ""), {"prod", "canary", "1", "2"}),
        (("registry", "diff", "sql@1", "sql@"), {"@prod", "@canary", "@1", "@2"}),
        (("registry", "canary", "start", "sp"), {"spell"}),
        (("registry", "keys", "cr"), {"create"}),
        (("registry", "list", "--reg"), {"--registry"}),
        (("hatstand", "serve", "--pin", "pi"), {"pirate"}),
        (("hatstand", "evaluate", "sq"), {"sql"}),
    ],
)
def test_bash_completes(home: Path, words: tuple[str, ...], offered: set[str]) -> None:
    assert offered <= {*in_bash(home, *words)}
    if "@" in words[-1] or words[-1] in ("s", "p", "c", "sp", "pi"):
        assert offered == {*in_bash(home, *words)}  # and nothing else


def test_a_terminal_ends_up_with_the_whole_reference(home: Path) -> None:
    """What readline makes of it: it replaces from the "@" on."""
    terminal, inside = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--norc", "-i"],
        env=environment(home) | {"TERM": "dumb"},
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)
    os.write(terminal, f"source {home}/registry.bash; echo re''ady\n".encode())
    read_until(terminal, b"ready\r\n")
    os.write(terminal, b"registry show sql@pr\t")
    said = read_until(terminal, b"prod ")
    os.close(terminal)
    shell.kill()
    shell.wait()
    shown: list[str] = []
    for character in said.decode(errors="replace"):
        shown = shown[:-1] if character == "\b" else [*shown, character]
    assert "registry show sql@prod " in "".join(shown)


def read_until(terminal: int, wanted: bytes) -> bytes:
    """What a terminal says up to that, or until it is clear that it never will."""
    said, until = b"", time.monotonic() + PATIENCE
    while wanted not in said and time.monotonic() < until:
        if select.select([terminal], [], [], 0.1)[0]:
            said += os.read(terminal, 1 << 16)
    return said


def test_an_option_names_another_registry(home: Path, tmp_path: Path) -> None:
    assert in_bash(home, "registry", "show", "--registry", str(tmp_path), "s") == []


def test_a_server_says_what_can_be_asked(home: Path) -> None:
    with LiveServer(make_site()) as live:
        asked = ("hatstand", "chat", "--url", live.url, "s")
        # It has a second for its answer; on a busy machine another attempt may be needed.
        eventually(lambda: {"sql"} <= {*in_bash(home, *asked)} <= {"sql", "sql@prod"})
    assert in_bash(home, *asked) == []  # nobody answers any more


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_the_same(home: Path, shell: str) -> None:
    """By what their scripts call; zsh's own machinery wants a terminal."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    line = "hatstand registry show sql@"
    asked = {"_TYPER_COMPLETE_ARGS": line, "_HATSTAND_COMPLETE": f"complete_{shell}"}
    asked["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    (home / f"hatstand.{shell}").write_text(script_of(home, "hatstand", shell))
    command = [shell, "-c", f"source {home}/hatstand.{shell}; complete -C '{line}'"]
    if shell == "zsh":
        command = [shell, "-c", "hatstand"]
    done = subprocess.run(
        command,
        env={**environment(home), **asked},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    for reference in ("sql@prod", "sql@canary", "sql@1", "sql@2"):
        assert reference in done.stdout, done.stderr


def test_words_are_joined_where_bash_broke_them() -> None:
    shown = ["registry", "show"]
    assert join_words([*shown, "sql", "@", "pr"], 4) == ([*shown, "sql@pr"], 2)
    assert join_words([*shown, "sql", "@"], 3) == ([*shown, "sql@"], 2)
    assert join_words([*shown, ""], 2) == ([*shown, ""], 2)
