"""Templates that mean harm: each is an error within its limits, and the next one renders."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.errors import TemplateFailed, TemplatesBusy
from registry.hats import Hat, render_chat
from registry.template_lane import Lost
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


class Slow:
    """Both children of a process without any: what says "slow" is lost, all else is answered."""

    def __init__(self, process: TemplateProcess, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: Counter[str] = Counter()
        self.is_patient_at_work = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()
        monkeypatch.setattr(process.quick, "ask", self.quickly)
        monkeypatch.setattr(process.patient, "ask", self.patiently)

    def quickly(self, question: bytes) -> bytes | Lost:
        self.asked["quick"] += 1
        return Lost.LATE if b"slow" in question else b'{"text": "answered"}\n'

    def patiently(self, question: bytes) -> bytes | Lost:
        self.asked["patient"] += 1
        self.is_patient_at_work.set()
        assert self.may_end.wait(60)
        return Lost.BROKEN if b"breaks" in question else Lost.LATE


def test_a_dozen_slow_ones_cost_others_one_short_try_each(
    process: TemplateProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = Slow(process, monkeypatch)
    for _ in range(5):
        for number in range(12):
            why = "broke" if number == 3 else "more than 1.5 s"
            with pytest.raises(TemplateFailed, match=why):
                render(process, f"slow {number}{' breaks' if number == 3 else ''}")
    assert children.asked == {"quick": 12, "patient": 12}
    assert process.quick.seconds == 0.25


def test_others_do_not_wait_while_slow_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    process = TemplateProcess(patient=1, patience=0)
    children = Slow(process, monkeypatch)
    children.may_end.clear()
    with ThreadPoolExecutor(1) as other:
        first = other.submit(render, process, "slow")
        try:
            assert children.is_patient_at_work.wait(60)
            assert render(process, PLAIN) == "answered"
            with pytest.raises(TemplatesBusy, match="wait already: try again") as busy:
                render(process, "slow too")
            assert busy.value.retry_after == process.patient.seconds
        finally:
            children.may_end.set()
        assert isinstance(first.exception(), TemplateFailed)
    with pytest.raises(TemplateFailed, match="more than 5 s"):
        render(process, "slow too")  # its place is free again


def test_a_crowd_with_one_slow_template_is_tried_once(
    process: TemplateProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = Slow(process, monkeypatch)
    with ThreadPoolExecutor(20) as crowd:
        asked = [crowd.submit(render, process, "slow") for _ in range(20)]
        assert all(isinstance(each.exception(), TemplateFailed) for each in asked)
    assert children.asked == {"quick": 1, "patient": 1}


def test_one_that_is_only_slow_is_answered_and_stays_out_of_the_way(
    process: TemplateProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = Slow(process, monkeypatch)
    monkeypatch.setattr(process.patient, "ask", lambda _question: b'{"text": "at last"}\n')
    assert [render(process, "slow") for _ in range(3)] == ["at last"] * 3
    assert children.asked == {"quick": 1}


def test_a_crowd_that_was_only_held_up_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    process = TemplateProcess(patient=1, patience=60)
    Slow(process, monkeypatch)
    monkeypatch.setattr(process.patient, "ask", lambda _question: b'{"text": "at last"}\n')
    with ThreadPoolExecutor(20) as crowd:
        asked = [crowd.submit(render, process, "slow") for _ in range(20)]
        assert [each.result() for each in asked] == ["at last"] * 20


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
    child = process.quick.child
    assert child is not None
    os.kill(child.pid, 9)
    child.wait()
    assert render(process, PLAIN).startswith("<s>[user]")


def test_it_has_no_secrets_and_may_write_no_file(
    process: TemplateProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HATSTAND_API_KEYS", "a-secret-key")
    process.check(PLAIN)
    child = process.quick.child
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
