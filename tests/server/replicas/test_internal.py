"""What the parent of replicas makes of what they answer to it."""

from __future__ import annotations

import socket

import pytest

from server.replicas.internal import Answer, read_answer

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def answered(raw: bytes) -> Answer:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(raw)
        ours.setblocking(False)
        return await read_answer(ours)


async def test_an_error_is_no_answer_to_what_was_asked() -> None:
    good = await answered(b'HTTP/1.1 503 X\r\ncontent-length: 15\r\n\r\n{"reasons": []}')
    assert good.expect(200, 503).json() == {"reasons": []}
    bad = await answered(b'HTTP/1.1 500 X\r\ncontent-length: 13\r\n\r\n{"error": {}}')
    with pytest.raises(ConnectionError, match="500"):
        bad.expect(200, 503)


async def test_a_cut_answer_is_none() -> None:
    with pytest.raises(ConnectionError, match="cut"):
        await answered(b"HTTP/1.1 200 X\r\ncontent-length: 13\r\n\r\n{")
