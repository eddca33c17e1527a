"""A conversation as the model reads it: the one way for requests, receipts and template locks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from registry.errors import TemplateFailed
from registry.hats import Hat, render_chat
from registry.template_process import template_process


class Tokenizer(Protocol):
    """The base's tokenizer, as far as a prompt needs it."""

    @property
    def chat_template(self) -> str | None: ...

    @property
    def bos_token(self) -> str | None: ...

    @property
    def eos_token(self) -> str | None: ...

    def encode(self, text: str) -> list[int]: ...


def prompt_text(
    tokenizer: Tokenizer,
    hat: Hat,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """The text up to where the answer begins. Raises `TemplateFailed`, also without a template.

    The base's template is the operator's; one that came with an adapter is held to limits.
    """
    template = hat.chat_template or tokenizer.chat_template
    if template is None:
        raise TemplateFailed("neither the hat nor the base has a chat template")
    render = render_chat if hat.chat_template is None else template_process().render
    return render(
        template,
        hat.apply(messages),
        add_generation_prompt=True,
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
        tools=tools,
    )


class Renderer:
    """The base's tokenizer under any hat: what the rendered-template lock is checked with."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def prompt_ids(self, hat: Hat, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """Token ids of `prompt_text`; the template writes special tokens, none are added."""
        return self._tokenizer.encode(prompt_text(self._tokenizer, hat, messages))
