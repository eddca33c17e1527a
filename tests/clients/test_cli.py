"""The command line, as people type it."""

from __future__ import annotations

import io
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from clients.cli import app
from clients.client import Hatstand
from clients.sizes import parse_size
from clients.terminal_chat import TerminalChat
from server.errors import StartupError
from tests.server.api.fakes import LiveServer, make_site

ROOT = Path(__file__).parents[2]
runner = CliRunner()


@pytest.fixture(scope="module")
def live() -> Iterator[LiveServer]:
    with LiveServer(make_site()) as server:
        yield server


def test_help_names_every_command_and_imports_no_torch() -> None:
    program = (
        "import sys; from clients.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'sqlalchemy', 'starlette'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for command in ("demo", "base", "serve", "plan", "train", "chat", "bench", "registry"):
        assert command in done.stdout


def test_a_device_that_is_none_is_refused_before_anything_is_loaded() -> None:
    result = runner.invoke(app, ["bench", "--device", "gpu"])
    assert result.exit_code == 2
    assert "'gpu'" in result.output


def test_chat_once(live: LiveServer) -> None:
    result = runner.invoke(app, ["chat", "sql", "hi", "--url", live.url, "--temperature", "0"])
    assert result.exit_code == 0, result.output
    assert "Hello world!" in result.stdout
    assert "sql@1" in result.stderr
    assert live.site.engine.requests[-1].params.is_greedy


def test_chat_refusals_are_one_sentence(live: LiveServer) -> None:
    result = runner.invoke(app, ["chat", "sq1", "hi", "--url", live.url])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: There is no adapter 'sq1' here. Did you mean 'sql'?")
    assert "Traceback" not in result.output


def test_conversation_remembers_and_survives_a_refusal(live: LiveServer) -> None:
    typed = iter(["hi", "", "x" * 100, "again", "/quit"])
    console, remarks = io.StringIO(), io.StringIO()
    live.site.engine.max_context = 90
    with Hatstand(live.url) as client:
        talk = TerminalChat(
            client,
            "pirate",
            {},
            system="Be brief.",
            console=Console(file=console),
            remarks=Console(file=remarks),
        )
        talk.run(lambda _: next(typed))
    assert console.getvalue() == "Hello world!\nHello world!\n"
    assert remarks.getvalue().count("error: The context is 90 tokens") == 1
    expected = "<system>Be brief.<user>hi<assistant>Hello world!<user>again<answer>"
    prompt = live.site.engine.requests[-1].prompt_token_ids
    assert prompt == tuple(live.site.base.tokenizer.encode(expected))


def converse(live: LiveServer, *typed: str) -> tuple[str, str]:
    """What a conversation with `pirate` prints: answers, and remarks."""
    lines = iter([*typed, "/quit"])
    console, remarks = io.StringIO(), io.StringIO()
    with Hatstand(live.url) as client:
        talk = TerminalChat(
            client,
            "pirate",
            {},
            console=Console(file=console, width=100),
            remarks=Console(file=remarks, width=100),
        )
        talk.run(lambda _: next(lines))
    return console.getvalue(), remarks.getvalue()


def test_another_hat_goes_on_with_the_conversation(live: LiveServer) -> None:
    answers, remarks = converse(live, "hi", "/hat sql@2", "again", "/hat nobody", "/new", "/bogus")
    assert answers == "Hello world!\nHello world\n"  # the hat of sql@2 allows 3 tokens
    assert "sql@2 · " in remarks
    assert "error: There is no adapter 'nobody'" in remarks
    assert "Forgotten." in remarks
    assert "There is no /bogus." in remarks
    assert "/vs NAME" in remarks
    prompt = live.site.engine.requests[-1].prompt_token_ids
    expected = "<user>hi<assistant>Hello world!<user>again<answer>"
    assert prompt == tuple(live.site.base.tokenizer.encode(expected))


def test_several_hats_at_once(live: LiveServer) -> None:
    answers, remarks = converse(live, "/hat sql@2*0.7+pirate*0.3", "hi", "/hat sql*1+nobody*1")
    assert answers == "Hello world\n"  # with the first one's hat
    assert "pirate@1*0.3+sql@2*0.7 · " in remarks
    assert "error: There is no adapter 'nobody'" in remarks


def test_two_hats_answer_side_by_side(live: LiveServer) -> None:
    answers, remarks = converse(live, "/vs sql@2", "hi", "/vs", "hi", "/models")
    both, alone = answers.rstrip().rsplit("\n", 1)
    assert "pirate" in both
    assert "sql@2" in both
    assert both.count("Hello world") == 2
    assert alone == "Hello world!"
    assert "tiny-mistral\nsql\nsql@prod\npirate" in remarks


def test_serve_options_become_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    served: list[Any] = []
    fake = types.ModuleType("server.serve")
    fake.serve = served.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "server.serve", fake)
    keys = tmp_path / "keys"
    keys.write_text("some-long-key:admin\n")
    command = ["serve", "--base", "b", "--registry", str(tmp_path), "--host", "0.0.0.0"]
    command += ["--port", "9000", "--pin", "sql", "--pin", "x@prod", "--max-slots", "3"]
    command += ["--kv-memory", "512MiB", "--api-keys-file", str(keys), "--shadow-bf16"]
    result = runner.invoke(app, [*command, "--device", "cpu", "--drain-timeout", "5"])
    assert result.exit_code == 0, result.output
    [settings] = served
    assert (settings.base, settings.registry, settings.port) == ("b", str(tmp_path), 9000)
    assert settings.api.pins == ("sql", "x@prod")
    assert settings.api.drain_timeout == 5
    assert settings.api.keys[0].allows("admin")
    assert (settings.engine.device, settings.engine.max_slots) == ("cpu", 3)
    assert settings.engine.kv_memory == 512 << 20
    assert settings.engine.max_rank is None
    assert settings.engine.shadow_bf16


def test_the_registry_is_the_environments_where_the_line_names_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served: list[Any] = []
    fake = types.ModuleType("server.serve")
    fake.serve = served.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "server.serve", fake)
    monkeypatch.setenv("HATSTAND_REGISTRY", "http://registry:8100")
    for words in ([], ["--registry", "here"]):
        assert runner.invoke(app, ["serve", "--base", "b", *words]).exit_code == 0
    assert [settings.registry for settings in served] == ["http://registry:8100", "here"]


def test_every_serve_option_says_what_it_does() -> None:
    options = typer.main.get_command(app).commands["serve"].params  # type: ignore[attr-defined]
    assert all(option.help for option in options)


def test_the_defaults_that_help_states_are_the_engines() -> None:
    from server.engine.config import EngineSettings
    from server.settings import ApiSettings

    options = typer.main.get_command(app).commands["serve"].params  # type: ignore[attr-defined]
    stated = {option.name: option.show_default for option in options}
    host, device, api = EngineSettings.on("cpu"), EngineSettings.on("cuda"), ApiSettings()
    assert stated["max_batch"] == f"{host.max_batch}; on a GPU {device.max_batch}"
    for name, value in (
        ("max_slots", host.max_slots),
        ("max_rank", host.max_rank),
        ("max_queue", host.max_waiting),
        ("host_memory", f"{host.host_memory // 2**30}GiB"),
        ("request_timeout", f"{api.request_timeout:g}"),
        ("drain_delay", f"{api.drain_delay:g}"),
        ("drain_timeout", f"{api.drain_timeout:g}"),
    ):
        assert stated[name] == str(value), name
    assert (device.max_slots, device.max_rank) == (host.max_slots, host.max_rank)


def test_serve_refuses_other_machines_without_keys() -> None:
    result = runner.invoke(app, ["serve", "--base", "b", "--host", "0.0.0.0"])
    assert result.exit_code == 1
    assert "--insecure" in result.stderr
    assert "--api-keys-file" in result.stderr


def test_bad_sizes_are_usage_errors() -> None:
    result = runner.invoke(app, ["serve", "--base", "b", "--kv-memory", "lots"])
    assert result.exit_code == 2
    assert "no size" in result.output


def test_startup_errors_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise StartupError("Port 8000 is taken.")

    fake = types.ModuleType("server.serve")
    fake.serve = refuse  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "server.serve", fake)
    result = runner.invoke(app, ["serve", "--base", "b"])
    assert (result.exit_code, result.stderr) == (1, "error: Port 8000 is taken.\n")


def test_missing_extras_name_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "server.serve", None)
    result = runner.invoke(app, ["serve", "--base", "b"])
    assert result.exit_code == 1
    assert "pip install 'hatstand[server]'" in result.stderr


def test_registry_commands_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[Any] = []
    fake = types.ModuleType("registry.cli")
    fake.app = lambda args, prog_name: passed.append((args, prog_name))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "registry.cli", fake)
    result = runner.invoke(app, ["registry", "push", "folder", "sql", "--alias", "prod", "--help"])
    assert result.exit_code == 0, result.output
    assert passed == [(["push", "folder", "sql", "--alias", "prod", "--help"], "hatstand registry")]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 1 << 20),
        ("512MiB", 512 << 20),
        ("2g", 2 * 10**9),
        ("1.5 KiB", 1536),
        ("80B", 80),
        ("0", 0),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_a_size_whose_unit_was_forgotten_is_asked_back() -> None:
    result = runner.invoke(app, ["plan", "--base", "tiny", "--gpu-memory", "80"])
    assert result.exit_code == 2
    assert "80 is so many bytes: write 80GiB" in result.output
