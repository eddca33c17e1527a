"""Two hats answer the same conversation at once, side by side in the terminal."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .client import Hatstand
from .errors import HatstandError
from .messages import Usage
from .options import ChatOptions
from .pace import facts

_REFRESH = 12  # times a second


@dataclass
class _Side:
    """One hat's answer so far; `first` and `seconds` count from the question."""

    name: str
    text: str = ""
    adapter: str = ""
    digest: str = ""
    usage: Usage | None = None
    first: float | None = None
    seconds: float = 0.0
    error: HatstandError | None = None
    started: float = field(default_factory=time.perf_counter)

    def answer(
        self, client: Hatstand, asked: Sequence[dict[str, Any]], options: ChatOptions
    ) -> None:
        try:
            with client.stream(self.name, asked, **options) as stream:
                self.adapter, self.digest = stream.adapter, stream.digest
                for event in stream:
                    self.seconds = time.perf_counter() - self.started
                    if event.text and self.first is None:
                        self.first = self.seconds
                    self.text += event.text
                    self.usage = event.usage or self.usage
        except HatstandError as error:
            self.error = error

    def render(self) -> Group:
        lines = [Text(self.text)]
        if self.error is not None:
            lines.append(Text(f"error: {self.error}", style="red"))
        elif self.usage is not None:
            known = facts(self.adapter, self.digest, self.usage, self.first, self.seconds)
            lines.append(Text(known, style="dim"))
        return Group(*lines)


def duel(
    client: Hatstand,
    names: Sequence[str],
    asked: Sequence[dict[str, Any]],
    options: ChatOptions,
    console: Console,
) -> str:
    """Show every hat's answer as it comes; returns the first one's. Raises its HatstandError."""
    sides = [_Side(name) for name in names]
    threads = [
        threading.Thread(target=side.answer, args=(client, asked, options), daemon=True)
        for side in sides
    ]
    for thread in threads:
        thread.start()
    with _watched(console, sides):
        for thread in threads:
            thread.join()
    if sides[0].error is not None:
        raise sides[0].error
    return sides[0].text


@contextlib.contextmanager
def _watched(console: Console, sides: Sequence[_Side]) -> Iterator[None]:
    """The table as it grows; where nothing can be drawn twice, once it is whole."""
    if console.is_terminal:
        table = partial(_table, sides)
        with Live(console=console, refresh_per_second=_REFRESH, get_renderable=table):
            yield
    else:
        yield
        console.print(_table(sides))


def _table(sides: Sequence[_Side]) -> Table:
    table = Table(expand=True)
    for side in sides:
        table.add_column(side.name, ratio=1)
    table.add_row(*(side.render() for side in sides))
    return table
