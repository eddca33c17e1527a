"""Wherever in its bytes an answer is cut, it is ended as HTTP and events, or not at all."""

from __future__ import annotations

import asyncio
from typing import cast

import h11
import pytest

from server.last_words.heir import LAST_EVENT
from server.last_words.pages import NUM_PLACES, WORDS, Page, Place
from server.last_words.written import LAST_CHUNK, Written
from server.supervision import refusal

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked"
STREAM = HEAD % (b"text/event-stream; charset=utf-8", CHUNKED)
EVENTS = (b"data: {}\n\n", b": ping\r\n\r\n", b"event: x\ndata: 1\n\n", b"data: [DONE]\n\n")
CHUNKS = [b"%x\r\n%b\r\n" % (len(event), event) for event in EVENTS]
WHOLE = (HEAD % (b"application/json", b"content-length: 8"), b"data\n\n\r\n")
FILE = (HEAD % (b"application/octet-stream", CHUNKED), b"4\r\n\r\n\n\n\r\n", LAST_CHUNK)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
WORDS_AT = {
    Place.UNANSWERED: refusal(1.0),
    Place.BETWEEN_EVENTS: LAST_EVENT + LAST_CHUNK,
    Place.BEFORE_LAST_CHUNK: LAST_CHUNK,
}


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.data = b""
        self.ends = [0]

    def write(self, data: bytes) -> None:
        self.data += data
        self.ends.append(len(self.data))

    def is_closing(self) -> bool:
        return False


def blank() -> Page:
    page = Page(memoryview(bytearray(8 * WORDS)).cast("Q"))
    page.clear()
    return page


def write(page: Page, *answers: tuple[bytes, ...]) -> Wire:
    """Answers on one connection, each to a request of its own."""
    wire = Wire()
    written = Written(cast("asyncio.Transport", wire), page, 0)
    for answer in answers:
        written.asked()
        for piece in answer:
            written.write(piece)
    assert not written.is_closing()
    return wire


def bodies(data: bytes) -> list[bytes]:
    """The answers that a client reads, as many as were asked for; h11 raises for what is none."""
    found = []
    while data:
        client, body = h11.Connection(h11.CLIENT), b""
        client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            assert event is not h11.NEED_DATA, "it is cut off"
            body += bytes(event.data) if isinstance(event, h11.Data) else b""
        found.append(body)
        data = client.trailing_data[0]
    return found


@pytest.mark.parametrize("before", [(), WHOLE, FILE, (STREAM, *CHUNKS, LAST_CHUNK)])
def test_a_stream_can_be_ended_between_any_two_events(before: tuple[bytes, ...]) -> None:
    page, answers = blank(), [before] if before else []
    wire = write(page, *answers, (STREAM, *CHUNKS, LAST_CHUNK))
    begin = len(b"".join(before))
    after = begin + len(STREAM)
    ends = {
        after: b"",
        **{after + len(b"".join(CHUNKS[:n])): b"".join(EVENTS[:n]) for n in (1, 2, 3)},
    }
    told = LAST_EVENT.split(b"\r\n", 1)[1].removesuffix(b"\r\n")
    for count in range(begin, len(wire.data) + 1):
        place = page.place_at(count)
        if place is Place.NOWHERE:
            assert count not in (begin, *ends)
            continue
        *_, body = bodies(wire.data[:count] + WORDS_AT[place])
        if place is Place.BETWEEN_EVENTS:
            assert body == ends.pop(count) + told
        elif place is Place.BEFORE_LAST_CHUNK:
            assert body == b"".join(EVENTS)
        else:
            assert count == begin
            assert body.startswith(b'{"error"')
    assert not ends
    assert page.place_at(len(wire.data)) is Place.NOWHERE


@pytest.mark.parametrize("answer", [WHOLE, FILE])
def test_what_is_no_stream_of_events_is_begun_or_not(answer: tuple[bytes, ...]) -> None:
    page = blank()
    wire = write(page, answer)
    assert page.place_at(0) is Place.UNANSWERED
    places = {page.place_at(count) for count in range(1, len(wire.data) + 1)}
    assert places == {Place.NOWHERE}


def test_a_body_that_was_asked_for_is_no_answer_yet() -> None:
    page = blank()
    wire = write(page, (INTERIM, *WHOLE))
    assert page.place_at(len(INTERIM)) is Place.UNANSWERED
    assert page.place_at(len(wire.data)) is Place.NOWHERE


def test_a_slow_reader_is_known_by_the_newest_events() -> None:
    page = blank()
    wire = write(page, (STREAM, *CHUNKS * NUM_PLACES))
    places = [page.place_at(count) for count in wire.ends[1:]]
    assert places[-NUM_PLACES:] == [Place.BETWEEN_EVENTS] * NUM_PLACES
    assert set(places[:-NUM_PLACES]) == {Place.NOWHERE}


def test_a_chunk_in_pieces_is_no_place() -> None:
    """Should the server below write so one day."""
    page = blank()
    head, event = CHUNKS[0].split(b"\r\n", 1)
    wire = write(page, (STREAM, head + b"\r\n", event[:-2], b"\r\n"))
    assert {page.place_at(count) for count in wire.ends[2:]} == {Place.NOWHERE}


def test_a_page_has_nothing_of_the_connection_before() -> None:
    page = blank()
    wire = write(page, (STREAM, *CHUNKS, LAST_CHUNK))
    page.clear()
    assert {page.place_at(count) for count in range(len(wire.data) + 1)} == {Place.NOWHERE}
