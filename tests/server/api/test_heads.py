"""A head that does not end is cut off; others arrive, whatever their bodies are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from server.api.heads import MOST, BoundedHeads

pytestmark = pytest.mark.anyio

PATIENCE = 60.0  # seconds until what does not come counts as broken
PIECES = 64  # of MOST bytes: much more than is kept


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def count(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of the body."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(count, http=BoundedHeads, lifespan="off", log_config=None)
    config.load()
    state = uvicorn.server.ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedHeads(config, state, {}, loop), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def ask(port: int, pieces: Iterator[bytes]) -> tuple[bytes, int]:
    """The answer, and how many pieces were sent before it came or the connection was cut."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    num_sent = 0
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            num_sent += 1
            await asyncio.sleep(0.001)
        return await asyncio.wait_for(reader.read(MOST), PATIENCE), num_sent
    except ConnectionError:
        return b"", num_sent
    finally:
        writer.close()


def headers(start: bytes) -> Iterator[bytes]:
    yield start
    for number in range(PIECES):
        yield b"X-%d: " % number + b"a" * MOST + b"\r\n"


def one_header() -> Iterator[bytes]:
    yield b"GET / HTTP/1.1\r\nHost: x\r\nX: "
    for _ in range(PIECES):
        yield b"a" * MOST


@pytest.mark.parametrize(
    "pieces",
    [
        headers(b"GET / HTTP/1.1\r\nHost: x\r\n"),
        one_header(),
        headers(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"),
    ],
    ids=["headers", "one", "trailers"],
)
async def test_what_does_not_end_is_cut_off(port: int, pieces: Iterator[bytes]) -> None:
    answer, num_sent = await ask(port, pieces)
    assert num_sent < PIECES
    assert answer.startswith(b"HTTP/1.1 400") or not answer


async def test_a_long_body_arrives(port: int) -> None:
    size = PIECES * MOST
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % size
    answer, _ = await ask(port, iter([head, *([b"a" * MOST] * PIECES)]))
    assert answer.endswith(b"\r\n\r\n%d" % size)
