"""How long a request's head may be."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST = 1 << 16  # bytes, as h11 has it


class BoundedHeads(HttpToolsProtocol):
    """uvicorn's faster parser, which keeps headers for as long as more of them come.

    Whoever sends so many bytes, and a piece as the loop reads them, that neither end a head nor are
    any body, in a head or in the trailers after a body, is told so and cut off.
    """

    _num_unread = 0

    def data_received(self, data: bytes) -> None:
        self._num_unread += len(data)
        super().data_received(data)
        if self._num_unread > MOST and not self.transport.is_closing():
            self.send_400_response("The request's headers are too long.")

    def on_headers_complete(self) -> None:
        self._num_unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._num_unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._num_unread = 0
        super().on_message_complete()
