"""`hatstand chat`: an answer that streams into the terminal, or a conversation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console

from .client import Hatstand
from .duel import duel
from .errors import HatstandError
from .messages import Answer
from .options import ChatOptions
from .pace import facts
from .weighted import parts_of

HELP = """\
/hat NAME   go on with another adapter (sql@7, sql@canary), with several (sql*0.7+pirate*0.3), or
            with the base
/vs NAME    let that one answer too, side by side; /vs alone ends it
/models     what NAME may be
/new        forget the conversation
/quit       leave (Ctrl-D too)"""
LEAVE = ("/quit", "/exit", "/q")


class TerminalChat:
    """One conversation. Text goes to `console`, remarks to `remarks`."""

    def __init__(
        self,
        client: Hatstand,
        model: str,
        options: ChatOptions,
        *,
        system: str | None = None,
        console: Console,
        remarks: Console,
    ) -> None:
        self._client = client
        self._model = model
        self._rival: str | None = None
        self._options = options
        self._console = console
        self._remarks = remarks
        self._opening = [] if system is None else [{"role": "system", "content": system}]
        self._turns: list[dict[str, Any]] = list(self._opening)

    def ask(self, prompt: str) -> str:
        """Stream the answer to one more user message; returns it. Raises HatstandError."""
        asked = [*self._turns, {"role": "user", "content": prompt}]
        if self._rival is None:
            text = self._stream(asked)
        else:
            names = (self._model, self._rival)
            text = duel(self._client, names, asked, self._options, self._console)
        self._turns = [*asked, {"role": "assistant", "content": text}]
        return text

    def answer(self, prompt: str) -> Answer:
        """The whole answer to one more user message. Raises HatstandError."""
        asked = [*self._turns, {"role": "user", "content": prompt}]
        return self._client.chat(self._model, asked, **self._options)

    def run(self, read: Callable[[str], str] = input) -> None:
        """Go on until the user leaves. A refused turn is said and forgotten."""
        self._remark(f"Talking to {self._model}. /help says what else there is.")
        while True:
            try:
                line = read("> ").strip()
            except (EOFError, KeyboardInterrupt):
                return
            if line in LEAVE:
                return
            if line:
                self._try(line)

    def _try(self, line: str) -> None:
        try:
            if line.startswith("/"):
                self._command(*line.split(maxsplit=1))
            else:
                self.ask(line)
        except HatstandError as error:
            self._remarks.print(f"error: {error}", style="red", markup=False, highlight=False)
        except KeyboardInterrupt:
            self._console.out("")  # the answer was cut short; the conversation goes on

    def _command(self, word: str, name: str = "") -> None:
        match word:
            case "/hat" if name:
                self._model = self._known(name)
                self._remark(f"Talking to {name}.")
            case "/vs" if name:
                self._rival = self._known(name)
                self._remark(f"{self._model} and {name} both answer; {self._model}'s words count.")
            case "/vs":
                self._rival = None
                self._remark(f"Talking to {self._model} alone.")
            case "/models":
                self._remark("\n".join(model.id for model in self._client.models()))
            case "/new":
                self._turns = list(self._opening)
                self._remark("Forgotten.")
            case "/help" | "/hat":
                self._remark(HELP)
            case _:
                self._remark(f"There is no {word}.\n{HELP}")

    def _known(self, name: str) -> str:
        """The name, if the server can tell what it means; raises HatstandError."""
        parts = parts_of(name)
        for part in parts:
            self._client.model(part["name"])
        return name if parts else self._client.model(name).id

    def _stream(self, asked: list[dict[str, Any]]) -> str:
        started, text, usage = time.perf_counter(), "", None
        first: float | None = None
        with self._client.stream(self._model, asked, **self._options) as stream:
            for event in stream:
                if event.text and first is None:
                    first = time.perf_counter() - started
                text += event.text
                self._console.out(event.text, end="", highlight=False)
                usage = event.usage or usage
        self._console.out("")
        seconds = time.perf_counter() - started
        self._remark(facts(stream.adapter, stream.digest, usage, first, seconds))
        return text

    def _remark(self, text: str) -> None:
        self._remarks.print(text, style="dim", highlight=False, markup=False)
