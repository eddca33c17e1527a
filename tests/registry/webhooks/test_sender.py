"""Deliveries over real sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from registry.webhooks import sender
from registry.webhooks.addresses import Reach
from registry.webhooks.hook import Webhook
from registry.webhooks.sender import Sender
from registry.webhooks.signature import is_signed, sign
from tests.registry.webhooks.receiver import HERE, Receiver, receiving
from tests.support.ports import free_port

SECRET = "whs_secret"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


def hook(url: str) -> Webhook:
    at = datetime.now(UTC)
    return Webhook("id", url, ("*",), ("*",), 0, 0, at, at, "ann", None, SECRET)


def test_what_is_sent_is_signed(receiver: Receiver) -> None:
    outcome = Sender(HERE).send(hook(receiver.url), b'{"id":1}', {"x-hatstand-event": "test"})
    assert (outcome.status, outcome.error, outcome.is_delivered) == (200, "", True)
    (received,) = receiver.received
    assert received.path == "/hook"
    assert received.body == b'{"id":1}'
    assert received.headers["x-hatstand-event"] == "test"
    header = received.headers["x-hatstand-signature"]
    assert is_signed(SECRET, received.body, header, time.time())
    assert not is_signed("whs_other", received.body, header, time.time())
    assert not is_signed(SECRET, received.body + b" ", header, time.time())
    assert not is_signed(SECRET, received.body, header, time.time() + 301)


def test_the_signature_is_what_the_docs_say() -> None:
    # printf '1700000000.{}' | openssl dgst -sha256 -hmac whs_secret
    expected = "b7194a780ca0435256161c18baa0ccdbae8433f406b12d4c94216487cda69c11"
    header = sign(SECRET, b"{}", 1_700_000_000)
    assert header == f"t=1700000000,v1={expected}"
    assert is_signed(SECRET, b"{}", header, 1_700_000_000)
    for broken in ("", "t=,v1=", "v1=00", header.replace("t=17", "t=18"), header[:-1], expected):
        assert not is_signed(SECRET, b"{}", broken, 1_700_000_000)


def test_nothing_goes_where_it_may_not(receiver: Receiver) -> None:
    port = receiver.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"):
        outcome = Sender(Reach()).send(hook(f"http://{host}:{port}"), b"{}", {})
        assert outcome.status is None
        assert "not public" in outcome.error
    assert receiver.received == []


def test_a_name_that_changes_after_it_was_looked_at(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, answers = socket.getaddrinfo, ["127.0.0.1", "127.0.0.2"]

    def rebinding(host: str, port: int, *rest: object, **more: object) -> object:
        return real(answers.pop(0) if host == "rebinding.example" else host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    port = receiver.url.rpartition(":")[2]
    reach = Reach.parse(["127.0.0.1/32"])
    assert Sender(reach).send(hook(f"http://rebinding.example:{port}"), b"{}", {}).is_delivered
    assert answers == ["127.0.0.2"]  # asked once, and connected to what was checked
    assert receiver.received[0].headers["host"].startswith("rebinding.example")
    refused = Sender(reach).send(hook(f"http://rebinding.example:{port}"), b"{}", {})
    assert "127.0.0.2, which is not public" in refused.error


def test_redirections_are_not_followed(receiver: Receiver) -> None:
    with receiving() as other:
        receiver.status, receiver.location = 307, other.url
        outcome = Sender(HERE).send(hook(receiver.url), b"{}", {})
        assert (outcome.status, outcome.is_delivered) == (307, False)
        assert outcome.error == "answered 307"
        assert other.received == []


def test_a_receiver_that_drips_does_not_hold_us(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_SECONDS", 0.3)
    receiver.drip = 0.02
    outcome = Sender(HERE).send(hook(receiver.url), b"{}", {})
    assert (outcome.status, outcome.is_delivered) == (None, False)
    assert outcome.seconds < 20  # which the answer would take at the least


def test_nobody_there_is_an_outcome() -> None:
    outcome = Sender(HERE).send(hook(f"http://127.0.0.1:{free_port()}"), b"{}", {})
    assert (outcome.status, outcome.is_delivered) == (None, False)
    assert "refused" in outcome.error
