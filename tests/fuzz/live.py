"""Mutated requests at a server with a real engine: `python -m tests.fuzz.live NUMBER [SEED]`.

`tests.fuzz server_api` asks an engine that computes nothing, one request at a time. Here eight ask
at once, some of whom leave before their answer, and there are fewer slots, places and blocks than
they want.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from random import Random

import httpx

from server.settings import EngineOptions
from tests.fuzz.asked import Asked, join, split
from tests.fuzz.mutating import Frame, mutate
from tests.fuzz.seeds import seeds
from tests.torture.site import make_settings, server_process, until_idle

NUM_CALLERS = 8
PATIENCE = (0.03, 0.1, 60.0, 60.0)  # seconds until a caller leaves
NEEDED = ("/healthz", "/readyz", "/debug/state")
TIGHT = EngineOptions(
    device="cpu", kv_memory=64 << 10, max_rank=8, max_slots=2, max_batch=3, max_queue=6
)
_FRAME = Frame(split, join)
_OURS = ("host", "content-length", "transfer-encoding", "connection", "expect")
_EXPECTED = (503, "adapter_load_failed")  # once somebody has pinned what is in the slots
_NAMES = ((b"tiny-mistral", b"tiny"), (b"sql@2", b"sql@1"))  # of the seeds, and what is here


class Callers:
    """What they were told."""

    def __init__(self, url: str, seed: int) -> None:
        self.statuses: Counter[int | str] = Counter()
        self.wrong: list[str] = []
        self._url = url
        self._seed = seed
        self._seeds = [_renamed(content) for content in seeds()["server_api"]]

    def ask(self, number: int) -> None:
        """All of them together so many requests, however long that takes."""
        threads = [
            threading.Thread(target=self._ask, args=(number // NUM_CALLERS, Random(seed)))
            for seed in range(self._seed, self._seed + NUM_CALLERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _ask(self, number: int, chance: Random) -> None:
        with httpx.Client() as client:
            for _ in range(number):
                content = chance.choice(self._seeds)
                asked = Asked.parse(mutate(_FRAME, content, chance.randrange(2**40)) or content)
                if asked.is_http and not asked.is_followed:
                    self._note(asked, self._send(client, asked, chance.choice(PATIENCE)))

    def _send(self, client: httpx.Client, asked: Asked, patience: float) -> httpx.Response | str:
        headers = [
            (name.encode(), value.encode("latin-1", "replace"))
            for name, value in asked.headers
            if name not in _OURS
        ]
        try:
            return client.request(
                asked.method,
                self._url + asked.target,
                headers=headers,
                content=asked.body,
                timeout=patience,
            )
        except (httpx.TimeoutException, httpx.LocalProtocolError, httpx.InvalidURL) as error:
            return type(error).__name__  # it left, or could not even be sent
        except httpx.TransportError as error:
            self.wrong.append(f"{error!r} to {asked}")
            return "cut"

    def _note(self, asked: Asked, answer: httpx.Response | str) -> None:
        if isinstance(answer, str):
            self.statuses[answer] += 1
            return
        self.statuses[answer.status_code] += 1
        is_failure = answer.status_code >= 500 or b'"internal_error"' in answer.content
        if is_failure and (answer.status_code, _code(answer)) != _EXPECTED:
            self.wrong.append(f"{answer.status_code} {answer.text[:300]} to {asked}")


def attack(number: int, seed: int) -> Callers:
    """So many requests; AssertionError where the server does not come to rest afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        settings = make_settings(Path(folder), ["sql", "pirate"], TIGHT)
        with server_process(settings, {"HATSTAND_HOME": folder}) as (url, _):
            callers = Callers(url, seed)
            callers.ask(number)
            until_idle(url)
            for path in NEEDED:
                assert httpx.get(url + path, timeout=PATIENCE[-1]).is_success, path
            blocks = httpx.get(url + "/debug/state", timeout=PATIENCE[-1]).json()["kv"]
            assert blocks["free"] == blocks["blocks"], blocks
    return callers


def _renamed(content: bytes) -> bytes:
    for name, here in _NAMES:
        content = content.replace(name, here)
    return content


def _code(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def main() -> None:
    number, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    callers = attack(number, seed)
    print(dict(callers.statuses.most_common()))
    print("\n".join(callers.wrong) or "nothing went wrong")


if __name__ == "__main__":
    main()
