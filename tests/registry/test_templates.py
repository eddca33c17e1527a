from __future__ import annotations

from typing import Any

import pytest

from registry.errors import TemplateFailed
from registry.hats import render_chat

# SmolLM2-135M-Instruct's own template: the embedded default.
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MISTRAL = """
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace(index=0) %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
        {{- raise_exception("roles must alternate user and assistant") }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and loop.last %}
            {{- "[AVAILABLE_TOOLS] " + (tools | tojson) + "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {%- generation %}
        {{- " " + message["content"] | trim + eos_token }}
        {%- endgeneration %}
    {%- endif %}
{%- endfor %}
"""
BLOCKS = """
    {% for message in messages %}
      {% if message.role == 'skip' %}{% continue %}{% endif %}
  {{ message.content | tojson }}
    {% if loop.index > 3 %}{% break %}{% endif %}
    {% endfor %}
{{ strftime_now('%Y') }} {{ dict(a=1) }} {{ pad_token is defined }} {{ documents is none }}
"""
USER = {"role": "user", "content": "how many <b>ö</b> & 'x'?\n\n"}
SYSTEM = {"role": "system", "content": "Answer in SQL.\n"}
ANSWER = {"role": "assistant", "content": " SELECT 1; ", "reasoning": "because"}
CHATS: list[list[dict[str, Any]]] = [
    [USER],
    [SYSTEM, USER],
    [USER, ANSWER, USER],
    [SYSTEM, USER, ANSWER, USER, ANSWER],
    [{"role": "skip", "content": ""}, USER, ANSWER, USER, USER, USER],
]


def reference(template: str, messages: list[dict[str, Any]], **names: Any) -> str:
    pytest.importorskip("transformers")
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered, _ = render_jinja_template([messages], chat_template=template, **names)
    return str(rendered[0])


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("messages", CHATS)
@pytest.mark.parametrize("template", [SMOLLM2, MISTRAL, BLOCKS])
@pytest.mark.parametrize("tools", [None, [{"type": "function", "function": {"name": "é<"}}]])
def test_rendering_is_what_transformers_renders(
    template: str, messages: list[dict[str, Any]], prompt: bool, tools: list[dict[str, Any]] | None
) -> None:
    names: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>"}
    try:
        expected = reference(template, messages, add_generation_prompt=prompt, tools=tools, **names)
    except Exception as failure:
        with pytest.raises(TemplateFailed, match=str(failure)[:40]):
            render_chat(template, messages, add_generation_prompt=prompt, tools=tools, **names)
    else:
        rendered = render_chat(
            template, messages, add_generation_prompt=prompt, tools=tools, **names
        )
        assert rendered == expected


def test_the_templates_own_refusal_is_the_reason() -> None:
    with pytest.raises(TemplateFailed, match="roles must alternate") as refusal:
        render_chat(
            MISTRAL, [USER, USER], add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
        )
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ 1 / 0 }}",
        "{{ undefined.attribute }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{% set ns = namespace(_x=1) %}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% include 'x' %}",
        "{% unknown %}",
        "{{ nope() }}",
    ],
)
def test_a_template_fails_as_a_registry_error_only(template: str) -> None:
    with pytest.raises(TemplateFailed):
        render_chat(template, [USER], add_generation_prompt=True, bos_token=None, eos_token=None)


def test_objects_never_reach_the_template() -> None:
    class Role(str):
        secret = "leaked"

    message = {"role": Role("user"), "content": object()}
    rendered = render_chat(
        "{{ messages[0].role.secret }}|{{ messages[0].content }}|{{ unk_token }}",
        [message],
        add_generation_prompt=False,
        bos_token=None,
        eos_token=None,
        extra={"unk_token": "<unk>"},
    )
    assert rendered == "|<object>|<unk>"


def test_a_message_must_be_an_object() -> None:
    with pytest.raises(TemplateFailed, match="must be an object"):
        render_chat(
            "x",
            ["hi"],  # type: ignore[list-item]
            add_generation_prompt=False,
            bos_token=None,
            eos_token=None,
        )
