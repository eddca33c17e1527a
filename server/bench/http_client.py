"""Many streamed completions at once, from a process of its own: `python http_client.py HOST PORT`.

Reads a JSON list of request bodies from its input; prints seconds and generated tokens as JSON.
Plain sockets, and nothing of the server's packages: the client must cost less than the server.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

PIECE = 1 << 16  # bytes read at once
ENDING = 4096  # bytes at a stream's end that hold its usage chunk


def request(body: Mapping[str, Any]) -> bytes:
    """One POST on a connection of its own."""
    content = json.dumps(body).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def complete(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], content: bytes
) -> int:
    """Generated tokens of one stream, by its usage chunk. RuntimeError if it ends without."""
    reader, writer = connection
    writer.write(content)
    ending = b""
    while piece := await reader.read(PIECE):  # parsing each event would be the client's cost
        ending = (ending + piece)[-ENDING:]
    writer.close()
    for line in reversed(ending.decode(errors="replace").splitlines()):
        if line.startswith("data: {"):
            return int(json.loads(line.removeprefix("data: "))["usage"]["completion_tokens"])
    raise RuntimeError(f"the stream ended with {ending!r}")


async def complete_all(
    host: str, port: int, bodies: Sequence[Mapping[str, Any]]
) -> tuple[float, int]:
    """(seconds until all have ended, tokens)."""
    requests = [request(body) for body in bodies]
    connections = [await asyncio.open_connection(host, port) for _ in bodies]
    started = time.perf_counter()
    counts = await asyncio.gather(*map(complete, connections, requests))
    return time.perf_counter() - started, sum(counts)


if __name__ == "__main__":
    taken, tokens = asyncio.run(complete_all(sys.argv[1], int(sys.argv[2]), json.load(sys.stdin)))
    print(json.dumps({"seconds": taken, "tokens": tokens}))
