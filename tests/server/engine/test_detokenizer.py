"""Text comes out whole, in order, and without any part of a stop string."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.engine.detokenizer import MOST_HELD, Decode, Detokenizer

texts = st.text(alphabet="ab \né€😀", max_size=24)
stops = st.lists(st.text(alphabet="ab \né", min_size=1, max_size=4), max_size=3).map(tuple)


def byte_level(pieces: Sequence[bytes]) -> Decode:
    """Like GPT-2's: a token is some bytes, which need not be whole characters."""
    return lambda ids: b"".join(pieces[i] for i in ids).decode("utf-8", "replace")


def metaspace(pieces: Sequence[bytes]) -> Decode:
    """Like Llama's: the space that begins the text is left out."""
    plain = byte_level(pieces)
    return lambda ids: plain(ids).removeprefix(" ")


@st.composite
def split(draw: st.DrawFn, content: st.SearchStrategy[bytes]) -> list[bytes]:
    """Bytes, cut into tokens anywhere."""
    data = draw(content)
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(data) - 1)))))
    edges = [0, *(cut for cut in cuts if cut < len(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if end > start]


pieces_of_text = split(texts.map(str.encode))
pieces_of_anything = split(st.binary(max_size=16))


def read(detokenizer: Detokenizer, count: int) -> list[str]:
    """What each token brings, then the flush; ends at a stop string."""
    parts = []
    for token_id in range(count):
        parts.append(detokenizer.push(token_id))
        if detokenizer.stopped_by is not None:
            break
    return [*parts, detokenizer.flush()]


def plainly(decode: Decode, count: int, stop: tuple[str, ...]) -> str:
    """The same, by decoding everything anew after each token."""
    for end in range(1, count + 1):
        text = decode(range(end))
        if text.endswith("\ufffd") and end < count:
            continue  # bytes of a character are still to come
        found = [text.index(string) for string in stop if string in text]
        if found:
            return text[: min(found)]
    return decode(range(count))


@pytest.mark.parametrize("make", [byte_level, metaspace])
@given(pieces=pieces_of_text | pieces_of_anything, stop=stops)
def test_streamed_text_is_the_decoded_text_up_to_the_first_stop_string(
    make: type, pieces: list[bytes], stop: tuple[str, ...]
) -> None:
    decode = make(pieces)
    parts = read(Detokenizer(decode, stop), len(pieces))
    assert "".join(parts) == plainly(decode, len(pieces), stop)


@given(pieces=split(st.binary(min_size=3 * MOST_HELD, max_size=6 * MOST_HELD)))
def test_of_bytes_that_make_no_characters_none_is_lost(pieces: list[bytes]) -> None:
    decode = byte_level(pieces)
    assert "".join(read(Detokenizer(decode), len(pieces))) == decode(range(len(pieces)))


@pytest.mark.parametrize("make", [byte_level, metaspace])
@pytest.mark.parametrize("piece", [b"\xff", b"", "\ufffd".encode()])
@pytest.mark.parametrize("count", range(100, 120))
def test_what_makes_no_character_costs_no_more_the_longer_it_goes_on(
    make: type, piece: bytes, count: int
) -> None:
    hat = [bytes([byte]) for byte in "🎩".encode()]
    pieces = [b" a", *[piece] * count, *hat, b" b"]
    decode, longest = make(pieces), 0

    def watched(ids: Sequence[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return str(decode(ids))

    parts = read(Detokenizer(watched, min_tokens=250), len(pieces))
    assert "".join(parts) == decode(range(len(pieces)))
    assert longest <= 2 * MOST_HELD + 2


@pytest.mark.parametrize("make", [byte_level, metaspace])
@pytest.mark.parametrize("letter", ["é", "€", "🎩"])
def test_of_tokens_that_each_begin_a_character_none_is_broken(make: type, letter: str) -> None:
    data = (letter * 5 * MOST_HELD).encode()
    size = len(letter.encode())
    pieces = [data[:1], *(data[at : at + size] for at in range(1, len(data), size))]
    parts = read(Detokenizer(make(pieces)), len(pieces))
    assert "".join(parts) == data.decode()
    assert sum(map(bool, parts)) > 1  # some came before the end


@given(pieces=pieces_of_text)
def test_no_part_ends_inside_a_character(pieces: list[bytes]) -> None:
    assert "\ufffd" not in "".join(read(Detokenizer(byte_level(pieces)), len(pieces)))


def stream(text: str, *stop: str, cut: int = 1) -> tuple[list[str], str | None]:
    """Feed `text` in pieces of `cut` bytes; the parts that came out, and what stopped them."""
    data = text.encode()
    pieces = [data[start : start + cut] for start in range(0, len(data), cut)]
    detokenizer = Detokenizer(byte_level(pieces), stop)
    return read(detokenizer, len(pieces)), detokenizer.stopped_by


def test_a_character_is_sent_with_its_last_byte() -> None:
    assert stream("a😀b") == (["a", "", "", "", "😀", "b", ""], None)


def test_text_is_sent_at_once_when_no_stop_string_can_begin_with_it() -> None:
    assert stream("abc", "xyz")[0] == ["a", "b", "c", ""]


def test_what_may_begin_a_stop_string_is_held_back_until_it_does_not() -> None:
    assert stream("abXYc", "XYZ")[0] == ["a", "b", "", "", "XYc", ""]


def test_a_stop_string_across_tokens_never_shows() -> None:
    assert stream("ab</s>cd", "</s>") == (["a", "b", "", "", "", "", ""], "</s>")


def test_a_stop_string_inside_one_token_cuts_it() -> None:
    assert stream("abSTOPcd", "STOP", cut=8) == (["ab", ""], "STOP")


def test_the_earliest_of_several_stop_strings_wins() -> None:
    assert stream("one two", "two", "ne", cut=7) == (["o", ""], "ne")


def test_of_overlapping_stop_strings_the_first_complete_one_wins() -> None:
    assert stream("abcd", "abcd", "bc") == (["", "", "a", ""], "bc")


def test_a_repeated_beginning_is_not_lost() -> None:
    assert "".join(stream("aaab", "aab")[0]) == "a"


def test_the_flush_brings_what_was_held_back() -> None:
    assert stream("ab</", "</s>") == (["a", "b", "", "", "</"], None)


def test_the_flush_brings_the_broken_character_at_the_end() -> None:
    detokenizer = Detokenizer(byte_level([b"a", "é".encode()[:1]]))
    assert [detokenizer.push(0), detokenizer.push(1), detokenizer.flush()] == ["a", "", "\ufffd"]


def test_the_flush_finds_a_stop_string_before_a_broken_character() -> None:
    detokenizer = Detokenizer(byte_level([b"a.\xe2\x80"]), (".",))
    assert [detokenizer.push(0), detokenizer.flush()] == ["", "a"]
    assert detokenizer.stopped_by == "."


def test_tokens_without_text_bring_nothing_and_cost_nothing() -> None:
    detokenizer = Detokenizer(byte_level([b"a", b"", b"b"]))
    assert read(detokenizer, 3) == ["a", "", "b", ""]


@pytest.mark.parametrize(
    ("min_tokens", "text"), [(0, "x"), (2, "x"), (3, "xa"), (4, "xab"), (5, "xabab")]
)
def test_a_stop_string_counts_from_the_minimum_length_on(min_tokens: int, text: str) -> None:
    decode = byte_level([b"x", b"a", b"b", b"a", b"b"])
    assert "".join(read(Detokenizer(decode, ("ab", "ba"), min_tokens), 5)) == text


def test_a_stop_string_that_began_before_the_minimum_length_may_end_after_it() -> None:
    decode = byte_level([b"x", b"<", b"/s", b">", b"y"])
    detokenizer = Detokenizer(decode, ("</s>",), 3)
    assert read(detokenizer, 5) == ["x", "", "", "", ""]
    assert detokenizer.stopped_by == "</s>"
