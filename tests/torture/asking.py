"""Clients that ask for streams over plain sockets, and remember how each ended.

Nothing of the server's packages and no HTTP library: the clients must cost less than the server.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

PATIENCE = 300.0  # seconds without a byte after which a stream counts as forgotten
LATER = 0.05  # seconds until somebody who was cut off asks again


@dataclass(frozen=True)
class Outcome:
    """How one stream ended: `done`, `refused` (429, or nobody listens), an error's code, `cut` if
    it just broke off, or `forgotten`. Times in seconds; `ended` by `time.monotonic()`.

    gaps: between its texts after the first. came_back: asked again when Retry-After said so.
    """

    adapter: str
    end: str
    first: float = 0.0
    total: float = 0.0
    gaps: tuple[float, ...] = ()
    ended: float = 0.0
    status: int = 0
    retry_after: float | None = None
    came_back: bool = False


@dataclass(frozen=True)
class Question:
    """What is asked, again and again. `num_words` words of prompt.

    spread: the part of num_tokens by which answers are longer or shorter, so that those who began
    together do not go on in step.
    """

    num_tokens: int
    num_words: int = 1
    spread: float = 0.0

    def request(self, model: str, number: int) -> bytes:
        prompt = " ".join([str(number), *["hello"] * self.num_words])
        body = {"model": model, "prompt": prompt, "max_tokens": self._length(number)}
        content = json.dumps({**body, "ignore_eos": True, "stream": True})
        head = (
            "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        return (head + content).encode()

    def _length(self, number: int) -> int:
        return round(
            self.num_tokens * random.Random(number).uniform(1 - self.spread, 1 + self.spread)
        )


async def stream(url: str, model: str, question: Question, number: int = 0) -> Outcome:
    """Ask for a stream and read it to its end, whatever that is."""
    place = urlsplit(url)
    began = time.perf_counter()
    outcome = Outcome(model, "cut")
    try:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            writer.write(question.request(model, number))
            outcome = await _read(reader, model, began)
        finally:
            writer.close()
    except TimeoutError:
        outcome = Outcome(model, "forgotten")
    except ConnectionRefusedError:
        outcome = Outcome(model, "refused")
    except (OSError, asyncio.IncompleteReadError, ValueError):
        outcome = Outcome(model, "cut")
    return replace(outcome, total=time.perf_counter() - began, ended=time.monotonic())


async def _read(reader: asyncio.StreamReader, model: str, began: float) -> Outcome:
    async with asyncio.timeout(PATIENCE):
        head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if status != 200:
        wait = _header(head, b"retry-after")
        code = "refused" if status == 429 else _end_of((await reader.read()).decode())
        return Outcome(model, code or "refused", status=status, retry_after=wait)
    times: list[float] = []
    end = "cut"
    while True:
        async with asyncio.timeout(PATIENCE):
            line = await reader.readline()
        if not line:
            break
        if line.startswith(b"data: "):
            end = _end_of(line[6:].decode().strip()) or end
            if end == "cut":
                times.append(time.perf_counter())
    gaps = tuple(after - before for before, after in itertools.pairwise(times))
    return Outcome(model, end, times[0] - began if times else 0.0, gaps=gaps, status=status)


def _header(head: bytes, name: bytes) -> float | None:
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next((float(value) for key, _, value in lines if key == name), None)


def _end_of(data: str) -> str | None:
    if data == "[DONE]":
        return "done"
    error = json.loads(data).get("error")
    return None if error is None else str(error["code"])


async def keep_asking(
    url: str, adapters: Sequence[str], question: Question, *, until: float
) -> list[Outcome]:
    """A stream for each entry of `adapters`, one after the other, until then (monotonic).

    Whoever is refused comes back when told to.
    """
    outcomes: list[Outcome] = []

    async def ask(client: int, adapter: str) -> None:
        number, came_back = client, False
        while time.monotonic() < until:
            outcome = replace(await stream(url, adapter, question, number), came_back=came_back)
            outcomes.append(outcome)
            came_back = outcome.retry_after is not None
            if not came_back:  # else the same is asked again, as OpenAI's clients do
                number += len(adapters)
            if outcome.retry_after is not None:
                await asyncio.sleep(outcome.retry_after)
            elif outcome.end == "cut":
                await asyncio.sleep(LATER)

    await asyncio.gather(*(ask(client, adapter) for client, adapter in enumerate(adapters)))
    return outcomes
