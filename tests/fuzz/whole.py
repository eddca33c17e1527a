"""Wrong and odd requests to a whole server: `python -m tests.fuzz.whole NUMBER [SEED]`.

The real engine computes a tiny Mistral with adapters behind the HTTP layer. Whatever was asked:
every status is one that GET /openapi.json lists, none is a bug's, and streams come to their end.
When all is answered, nothing is left behind, and a fixed question gets the same tokens as before.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from starlette.applications import Starlette

from registry import Registry
from registry.bases import read_base
from server.api.openapi import openapi_document
from server.assembly import assemble
from server.settings import EngineOptions, Settings
from tests.fuzz.apps import Operations, check_refusal
from tests.fuzz.asked import Asked, ask
from tests.fuzz.mutating import FRAMES, mutate
from tests.fuzz.seeds import seeds
from tests.support.tiny import TinyAdapter, write_tiny_base

AT_ONCE = 16
LONGEST = 120.0  # seconds for one request, with others beside it
ENDINGS = (b"data: [DONE]", b'"error"', b"event: response.completed", b"event: response.incomplete")
ENGINE = EngineOptions(device="cpu", kv_memory=1 << 20, max_rank=8, max_slots=2)
DOCUMENT = openapi_document(version="0", tunes=False)
STREAMED = b'POST /v1/completions\n\n{"model": "sql", "prompt": "a", "stream": true}'
PROBE: dict[str, Any] = {
    "prompt": "How many orders?",
    "max_tokens": 16,
    "temperature": 0.8,
    "seed": 11,
    "logprobs": 2,
    "return_token_ids": True,
    "ignore_eos": True,
}


@dataclass
class Found:
    """What a run came to. `left`: what the server still held when everything was answered."""

    num_asked: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    left: dict[str, Any] = field(default_factory=dict)
    probes: list[Any] = field(default_factory=list)  # before and after
    seconds: float = 0.0


def inputs(number: int, seed: int) -> Iterator[bytes]:
    """Kept requests with something changed in them: mostly in the JSON, else some bytes."""
    chance, kept = Random(seed), seeds()["server_api"]
    for _ in range(number):
        content = chance.choice(kept)
        changed = mutate(FRAMES["server_api"], content, chance.randrange(2**62))
        yield blindly(content, chance) if changed is None else changed


def blindly(content: bytes, chance: Random) -> bytes:
    """Up to eight bytes replaced by as many others, or by more, or by none."""
    begin = chance.randrange(len(content))
    middle = chance.randbytes(chance.randrange(9))
    return content[:begin] + middle + content[begin + chance.randrange(9) :]


def make_settings(folder: Path) -> Settings:
    """A tiny base with the adapters that the seeds name; more of them than slots."""
    base = write_tiny_base(folder / "tiny-mistral", max_position_embeddings=128)
    registry = Registry.open(folder / "registry")
    for seed, name in enumerate(("sql", "sql", "pirate", "odd")):
        adapter = TinyAdapter(name, seed=seed).write(base, folder / f"{name}-{seed}")
        registry.push(adapter, name, base=read_base(base))
    registry.set_alias("sql", "prod", "sql@1")
    return Settings(base=str(base), registry=registry.folder, port=0, engine=ENGINE)


async def fuzz(settings: Settings, contents: Iterator[bytes]) -> Found:
    """Ask everything, so many at once, and look at what is left."""
    app, found, begun = _app(settings), Found(), time.monotonic()
    async with app.router.lifespan_context(app):
        found.probes = [await _probe(app)]
        await _check(app, Asked.parse(STREAMED), Operations(DOCUMENT), Found())  # starts a watcher
        fresh, tasks = await _state(app), len(asyncio.all_tasks())
        operations = Operations(DOCUMENT)
        workers = [_work(app, contents, operations, found) for _ in range(AT_ONCE)]
        await asyncio.gather(*workers)
        await _settled(app, tasks)
        state = await _state(app)
        found.left = {
            "kv": (fresh["kv"], state["kv"]),
            "queue": state["queue"],
            "running": sum(held["running"] for held in state["slots"]["resident"]),
            "loading": state["slots"]["loading"],
            "tasks": (tasks, len(asyncio.all_tasks())),
        }
        found.probes.append(await _probe(app))
    found.seconds = time.monotonic() - begun
    return found


def _app(settings: Settings) -> Starlette:
    app = assemble(settings, lambda *_: None).config.app
    assert isinstance(app, Starlette)
    return app


async def _work(
    app: Starlette, contents: Iterator[bytes], operations: Operations, found: Found
) -> None:
    for content in contents:
        asked = Asked.parse(content)
        if not asked.is_http:
            continue  # what parses HTTP answers
        found.num_asked += 1
        try:
            await _check(app, asked, operations, found)
        except Exception as fault:
            found.faults.append(f"{asked}: {fault!r}"[:2000])


async def _check(app: Starlette, asked: Asked, operations: Operations, found: Found) -> None:
    said = await ask(app, asked, seconds=LONGEST)
    operation = operations.find(asked)
    found.statuses[said.status] += 1
    found.operations[operation.label] += 1
    assert said.status in operation.statuses, f"{said.status}: {said.body[:500]!r}"
    if said.status >= 400 and asked.method != "HEAD":
        check_refusal(said)
    if said.is_stream:
        assert any(ending in said.body for ending in ENDINGS), said.body[-200:]
        assert b"internal_error" not in said.body, said.body[-500:]


async def _probe(app: Starlette) -> Any:
    """Tokens and probabilities of one question, by each model."""
    answers = []
    for model in ("sql@1", "pirate@1", "tiny-mistral"):
        content = json.dumps({"model": model, **PROBE}).encode()
        said = await ask(app, Asked("POST", "/v1/completions", (), content), seconds=LONGEST)
        [choice] = json.loads(said.body)["choices"]
        answers.append((choice["token_ids"], choice["logprobs"]["token_logprobs"]))
    return answers


async def _settled(app: Starlette, tasks: int) -> None:
    """Wait until nobody runs or waits and no task is left over; ten seconds at most."""
    for _ in range(500):
        queue = (await _state(app))["queue"]
        if queue["running"] == queue["waiting"] == 0 and len(asyncio.all_tasks()) <= tasks:
            return
        await asyncio.sleep(0.02)


async def _state(app: Starlette) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((await ask(app, Asked("GET", "/debug/state"))).body)
    return state


def check(found: Found) -> None:
    """AssertionError on whatever should not be."""
    assert found.faults == [], found.faults
    fresh, kv = found.left["kv"]
    before, after = found.left["tasks"]
    assert kv == fresh
    assert (found.left["queue"]["running"], found.left["queue"]["waiting"]) == (0, 0)
    assert (found.left["running"], found.left["loading"]) == (0, [])
    assert after <= before
    assert found.probes[0] == found.probes[1]
    assert found.statuses[200] > found.num_asked / 20  # or the engine had nothing to do


def main() -> None:
    number, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HATSTAND_HOME"] = folder
        found = asyncio.run(fuzz(make_settings(Path(folder)), inputs(number, seed)))
    print(f"{number} inputs, {found.num_asked} of them HTTP, in {found.seconds:.0f} s")
    print(dict(sorted(found.statuses.items())), dict(found.operations.most_common(6)), sep="\n")
    print(found.left, *found.faults[:20], sep="\n")
    check(found)


if __name__ == "__main__":
    main()
