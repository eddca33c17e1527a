"""Nothing of a request stays: after many more of them the server holds what it held before."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from server.serve import serving
from server.settings import EngineOptions
from tests.torture.asking import Question, stream
from tests.torture.held import held
from tests.torture.site import make_settings, until_idle

NAMES = [f"a{number}" for number in range(24)]
# Adapters come and go, blocks are taken from kept prefixes, and not everybody finds a place.
ENGINE = EngineOptions(
    device="cpu", kv_memory=1 << 18, max_rank=8, max_slots=3, max_batch=3, max_queue=3
)
AT_ONCE = 8  # and not more: each takes a thread of the server's, which comes and goes
AT_FIRST = 240  # requests of each kind, until caches are full
THEN = 360
MOST = 150  # more of anything than before: threads and connections come and go
QUESTION = Question(num_tokens=4, num_words=20)
ENDS = {"done", "left", "adapter_not_found"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_nothing_of_a_request_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)  # pytest keeps every line that is logged
    with serving(make_settings(tmp_path, NAMES, ENGINE)) as url:
        assert set(asyncio.run(_ask_everything(url, range(AT_FIRST)))) - {"refused"} == ENDS
        before = _held_at_rest(url)
        asyncio.run(_ask_everything(url, range(AT_FIRST, AT_FIRST + THEN)))
        grown = _held_at_rest(url) - before
    assert {name: more for name, more in grown.items() if more > MOST} == {}


def _held_at_rest(url: str) -> Counter[str]:
    """What is there whenever it is counted: the least of two counts."""
    until_idle(url)
    first, second = held(), held()
    return first & second


async def _ask_everything(url: str, numbers: range) -> Counter[str]:
    """Prompts that nobody asked before: read to the end, left in the middle, and for nobody."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def in_turn(asked: int) -> list[str]:
        async with turns:
            name = NAMES[asked % len(NAMES)]
            done = await stream(url, name, QUESTION, asked)
            wrong = await stream(url, "nobody", QUESTION, asked)
            return [done.end, wrong.end, await _leave(url, name, -asked)]

    ends = await asyncio.gather(*map(in_turn, numbers))
    return Counter(end for some in ends for end in some)


async def _leave(url: str, model: str, number: int) -> str:
    """Ask for much, and hang up after the first text or a refusal."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(Question(num_tokens=100).request(model, number))
    await reader.readline()
    writer.transport.abort()
    return "left"
