"""Templates that mean harm: each is an error within its limits, and the next one renders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.errors import TemplateFailed
from registry.hats import Hat, render_chat
from registry.template_process import TemplateProcess

USER = {"role": "user", "content": "grüß 'dich' \ud83d & <b> 🎩"}
PLAIN = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content | tojson }}{% endfor %}"
ROUNDS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture
def process() -> Iterator[TemplateProcess]:
    process = TemplateProcess(seconds=1.5, memory=128 << 20)
    yield process
    process.close()


def render(process: TemplateProcess, template: str) -> str:
    return process.render(
        template, [USER], add_generation_prompt=True, bos_token="<s>", eos_token=None
    )


def test_it_renders_what_is_rendered_here(process: TemplateProcess) -> None:
    here = render_chat(
        PLAIN, [USER], add_generation_prompt=True, bos_token="<s>", eos_token=None, tools=None
    )
    assert render(process, PLAIN) == here


def test_one_that_loops_is_ended_and_put_aside(process: TemplateProcess) -> None:
    for _ in range(2):  # the second time it is not even tried
        with pytest.raises(TemplateFailed, match=r"more than 1.5 s"):
            render(process, ROUNDS)
        assert render(process, PLAIN).startswith("<s>[user]")


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * (10 ** 10) }}",  # folded by the compiler already
        "{{ messages[0].role * (10 ** 10) }}",
        "{{ messages[0].role | center(10 ** 10) }}",
        "{% set n = namespace(s='aaaa') %}{% for i in range(60) %}"
        "{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
        "{% for i in range(18000) %}{{ 'a' | center(1000) }}{% endfor %}",
    ],
)
def test_memory_is_bounded(process: TemplateProcess, template: str) -> None:
    with pytest.raises(TemplateFailed):
        render(process, template)
    assert render(process, PLAIN).startswith("<s>[user]")


def test_a_template_that_would_break_the_process_costs_the_process_only(
    process: TemplateProcess,
) -> None:
    with pytest.raises(TemplateFailed):
        process.check("{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}")
    process.check(PLAIN)


def test_a_child_that_was_killed_is_replaced(process: TemplateProcess) -> None:
    process.check(PLAIN)
    child = process._child
    assert child is not None
    os.kill(child.pid, 9)
    child.wait()
    assert render(process, PLAIN).startswith("<s>[user]")


def test_it_has_no_secrets_and_may_write_no_file(
    process: TemplateProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HATSTAND_API_KEYS", "a-secret-key")
    process.check(PLAIN)
    child = process._child
    assert child is not None
    about = Path(f"/proc/{child.pid}")
    if not about.exists():
        pytest.skip("this system has no /proc to look into")
    assert b"a-secret-key" not in (about / "environ").read_bytes()
    limits = (about / "limits").read_text().splitlines()
    assert next(line for line in limits if line.startswith("Max file size")).split()[3:5] == [
        "0",
        "0",
    ]


def test_a_hat_is_compiled_there(process: TemplateProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.hats.template_process", lambda: process)
    with pytest.raises(TemplateFailed, match=r"more than 1.5 s"):
        Hat.from_parts(None, b"{{ 10 ** (10 ** 9) }}")  # which the compiler works out
