"""Many streamed completions at once, from a process of its own: `python http_client.py URL`.

Reads a JSON list of request bodies from its input; prints seconds and generated tokens as JSON.
Needs nothing of the server's packages, so that it starts at once.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

PATIENCE = 120.0  # seconds


async def complete(client: httpx.AsyncClient, body: Mapping[str, Any]) -> int:
    """Generated tokens of one stream, by its usage chunk. RuntimeError if it ends without."""
    last = b""
    async with client.stream("POST", "/v1/completions", json=body) as response:
        async for part in response.aiter_raw():  # parsing each event would be the client's cost
            last = (last + part)[-2048:]
    for line in reversed(last.decode().splitlines()):
        if line.startswith("data: {"):
            return int(json.loads(line.removeprefix("data: "))["usage"]["completion_tokens"])
    raise RuntimeError(f"status {response.status_code}: {last!r}")


async def complete_all(url: str, bodies: Sequence[Mapping[str, Any]]) -> tuple[float, int]:
    """(seconds until all have ended, tokens)."""
    limits = httpx.Limits(max_connections=len(bodies))
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=PATIENCE) as client:
        started = time.perf_counter()
        counts = await asyncio.gather(*(complete(client, body) for body in bodies))
        return time.perf_counter() - started, sum(counts)


if __name__ == "__main__":
    seconds, tokens = asyncio.run(complete_all(sys.argv[1], json.load(sys.stdin)))
    print(json.dumps({"seconds": seconds, "tokens": tokens}))
