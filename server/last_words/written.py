"""A connection's transport that notes after how many bytes its answer could be ended."""

from __future__ import annotations

import asyncio
from typing import Any

from .pages import Page

LAST_CHUNK = b"0\r\n\r\n"
_EVENT_ENDS = (b"\n\n\r\n", b"\n\r\n\r\n")  # an event's empty line, and the end of its chunk
_INTERIM = b"HTTP/1.1 100 "
_STREAM = (b"\r\ncontent-type: text/event-stream", b"\r\ntransfer-encoding: chunked\r\n")


class Written:
    """Notes a place before it is written: where the kernel has less, the place before it counts.

    The server below writes a head, a chunk and the last chunk each in one piece. One that did not
    would be noted as no place at all.
    """

    def __init__(self, transport: asyncio.Transport, page: Page, count: int) -> None:
        """count: bytes that were written on the connection before."""
        self._transport = transport
        self._page = page
        self._count = count
        self._is_head_next = False
        self._is_stream = False  # any other body can be ended by its own bytes only

    def __getattr__(self, name: str) -> Any:
        """All but writing is the transport's own."""
        return getattr(self._transport, name)

    def asked(self) -> None:
        """A request has come, and what is written next is its answer."""
        self._is_head_next = True
        self._is_stream = False
        self._page.asked(self._count)

    def write(self, data: bytes) -> None:
        before = self._count
        self._count = after = before + len(data)
        if self._is_stream:
            if data.endswith(_EVENT_ENDS):
                self._page.between_events(after)
            elif data == LAST_CHUNK:
                self._page.ending(before)
        elif self._is_head_next:
            self._begin(data)
        self._transport.write(data)

    def _begin(self, head: bytes) -> None:
        if head.startswith(_INTERIM):
            self._page.asked(self._count)
            return
        self._is_head_next = False
        self._is_stream = all(header in head.lower() for header in _STREAM)
        if self._is_stream:
            self._page.between_events(self._count)
