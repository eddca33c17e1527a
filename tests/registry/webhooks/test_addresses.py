from __future__ import annotations

import ipaddress
import socket

import pytest

from registry.errors import InvalidRequest
from registry.webhooks.addresses import AddressRefused, Reach


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # clouds' metadata
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "fd12:3456::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
    ],
)
def test_what_is_not_public_is_out_of_reach(address: str) -> None:
    assert not Reach().allows(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"]
)
def test_what_is_public_is_not(address: str) -> None:
    assert Reach().allows(ipaddress.ip_address(address))


def test_an_operator_may_allow_networks() -> None:
    reach = Reach.from_environment({"HATSTAND_WEBHOOK_NETWORKS": "10.0.0.0/8, fd00::/8"})
    assert reach.allows(ipaddress.ip_address("10.1.2.3"))
    assert reach.allows(ipaddress.ip_address("::ffff:10.1.2.3"))
    assert reach.allows(ipaddress.ip_address("fd12::1"))
    assert not reach.allows(ipaddress.ip_address("127.0.0.1"))
    with pytest.raises(InvalidRequest, match="HATSTAND_WEBHOOK_NETWORKS"):
        Reach.parse(["10.0.0.0/40"])


def answer(*addresses: str) -> list[tuple[object, ...]]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 443)) for each in addresses]


def test_a_name_is_what_it_resolves_to(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = answer("10.0.0.1", "1.1.1.1", "fe80::1%eth0")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    assert Reach().resolve("mixed.example", 443) == ["1.1.1.1"]
    answers[:] = answer("10.0.0.1")
    with pytest.raises(AddressRefused, match=r"inner.example is 10.0.0.1, which is not public"):
        Reach().resolve("inner.example", 443)
