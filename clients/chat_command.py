"""`hatstand chat NAME ["prompt"]`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from .completing import served_names
from .failures import explained

URL = typer.Option(envvar="HATSTAND_URL", help="The server's address.")
KEY = typer.Option(envvar="HATSTAND_API_KEY", help="An API key.", show_default=False)


def chat(
    name: Annotated[
        str,
        typer.Argument(
            help="An adapter (sql, sql@7, sql@prod) or the base.", autocompletion=served_names
        ),
    ],
    prompt: Annotated[str | None, typer.Argument(help="Ask once; else converse.")] = None,
    url: Annotated[str, URL] = "http://127.0.0.1:8000",
    api_key: Annotated[str | None, KEY] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="0 takes the likeliest token each time.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same answer.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the server's whole answer to PROMPT as JSON.")
    ] = False,
) -> None:
    """Ask an adapter; the answer streams, and the version that gave it is named."""
    if as_json and prompt is None:
        raise typer.BadParameter("--json needs a PROMPT: a conversation is for people")
    with explained("chat"):
        from rich.console import Console

        from .client import Hatstand
        from .options import ChatOptions
        from .terminal_chat import TerminalChat

        asked: dict[str, Any] = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": seed,
        }
        options = ChatOptions(**{k: v for k, v in asked.items() if v is not None})  # type: ignore[typeddict-item]
        with Hatstand(url, api_key=api_key) as client:
            said, remarks = Console(), Console(stderr=True)
            talk = TerminalChat(client, name, options, system=system, console=said, remarks=remarks)
            if as_json and prompt is not None:
                typer.echo(json.dumps(asdict(talk.answer(prompt)), indent=2, ensure_ascii=False))
            elif prompt is not None:
                talk.ask(prompt)
            else:
                talk.run()
