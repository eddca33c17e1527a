"""`hatstand chat`: an answer that streams into the terminal, or a conversation."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console

from .client import Hatstand
from .errors import HatstandError
from .messages import SamplingOptions

LEAVE = ("/quit", "/exit", "/q")


class TerminalChat:
    """One conversation with one model. Text goes to `console`, remarks to `remarks`."""

    def __init__(
        self,
        client: Hatstand,
        model: str,
        options: SamplingOptions,
        *,
        system: str | None = None,
        console: Console,
        remarks: Console,
    ) -> None:
        self._client = client
        self._model = model
        self._options = options
        self._console = console
        self._remarks = remarks
        self._turns: list[dict[str, str]] = []
        if system is not None:
            self._turns.append({"role": "system", "content": system})

    def ask(self, prompt: str) -> str:
        """Stream the answer to one more user message; returns it. Raises HatstandError."""
        asked = [*self._turns, {"role": "user", "content": prompt}]
        started, text = time.perf_counter(), ""
        num_tokens = 0
        with self._client.stream(self._model, asked, **self._options) as stream:
            for event in stream:
                text += event.text
                self._console.out(event.text, end="", highlight=False)
                num_tokens = event.usage.completion if event.usage else num_tokens
        self._console.out("")
        rate = num_tokens / max(time.perf_counter() - started, 1e-9)
        digest = stream.digest.removeprefix("sha256:")[:12]
        self._remarks.print(
            f"{stream.adapter} · {digest} · {num_tokens} tokens · {rate:.1f} tok/s",
            style="dim",
            highlight=False,
            markup=False,
        )
        self._turns = [*asked, {"role": "assistant", "content": text}]
        return text

    def run(self, read: Callable[[str], str] = input) -> None:
        """Go on until the user leaves. A refused turn is said and forgotten."""
        self._remarks.print(
            f"Talking to {self._model}. Ctrl-D or /quit leaves.", style="dim", markup=False
        )
        while True:
            try:
                prompt = read("> ").strip()
            except (EOFError, KeyboardInterrupt):
                return
            if prompt in LEAVE:
                return
            if prompt:
                self._try(prompt)

    def _try(self, prompt: str) -> None:
        try:
            self.ask(prompt)
        except HatstandError as error:
            self._remarks.print(f"error: {error}", style="red", markup=False, highlight=False)
        except KeyboardInterrupt:
            self._console.out("")  # the answer was cut short; the conversation goes on
