from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import InvalidHat, TemplateFailed
from registry.hats import Hat, Sampling

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
HATS = st.builds(
    Hat,
    system_prompt=st.none() | TEXT,
    stop=st.lists(TEXT.filter(bool)).map(tuple),
    sampling=st.builds(Sampling, temperature=st.none() | st.floats(0, 2), top_k=st.just(3)),
    response_schema=st.none() | st.just({"type": "object", "properties": {"é": True}}),
    chat_template=st.none() | TEXT.filter(lambda text: not set(text) & set("{%#}")),
)


@given(HATS)
def test_a_hat_survives_its_folder(tmp_path_factory: pytest.TempPathFactory, hat: Hat) -> None:
    folder = tmp_path_factory.mktemp("hat")
    hat.write(folder)
    assert Hat.read(folder) == hat


def test_a_folder_without_a_hat_wears_an_empty_one(tmp_path: Path) -> None:
    assert Hat.read(tmp_path) == Hat()
    assert Hat().template_sha256 is None


def test_writing_leaves_no_template_of_another_hat(tmp_path: Path) -> None:
    Hat(chat_template="old").write(tmp_path)
    Hat().write(tmp_path)
    assert Hat.read(tmp_path).chat_template is None


@pytest.mark.parametrize(
    ("content", "param"),
    [
        ({"sistem_prompt": "x"}, "sistem_prompt"),
        ({"sampling": {"temprature": 1}}, "sampling.temprature"),
        ({"sampling": {"temperature": -1}}, "sampling.temperature"),
        ({"sampling": {"top_p": 0}}, "sampling.top_p"),
        ({"stop": [""]}, "stop.0"),
        ({"stop": "abc"}, "stop"),
        ({"chat_template": "x"}, "chat_template"),
        ({"response_schema": []}, "response_schema"),
        ({"response_schema": {"items": {"type": "text"}}}, "response_schema.items.type"),
        ({"response_schema": {"required": "a"}}, "response_schema.required"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, content: object, param: str) -> None:
    (tmp_path / "hat.json").write_text(json.dumps(content))
    with pytest.raises(InvalidHat) as refusal:
        Hat.read(tmp_path)
    assert refusal.value.param == param


def test_a_misspelled_key_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "hat.json").write_text('{"sampling": {"temprature": 1}}')
    with pytest.raises(InvalidHat, match="did you mean 'temperature'"):
        Hat.read(tmp_path)


def test_a_template_that_does_not_compile_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("a\n{% if %}")
    with pytest.raises(TemplateFailed, match="line 2"):
        Hat.read(tmp_path)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(InvalidHat, match="UTF-8"):
        Hat.read(tmp_path)


def test_the_system_prompt_goes_first_unless_the_request_has_one() -> None:
    user = {"role": "user", "content": "hi"}
    own = {"role": "system", "content": "mine"}
    hat = Hat(system_prompt="yours")
    assert hat.apply([user]) == [{"role": "system", "content": "yours"}, user]
    assert hat.apply([own, user]) == [own, user]
    assert Hat().apply([user]) == [user]
