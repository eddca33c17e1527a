"""Where a webhook may lead: to public addresses, and to networks that the operator named."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from registry.errors import InvalidRequest

NETWORKS_VARIABLE = "HATSTAND_WEBHOOK_NETWORKS"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Public by their numbers, but what they lead to is an IPv4 address inside, which need not be.
_TRANSLATED = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "2002::/16", "2001::/32")))


@dataclass(frozen=True)
class Reach:
    """Which addresses deliveries may go to."""

    networks: tuple[Network, ...] = ()  # beside public ones

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Reach:
        """Public addresses and these networks (`10.0.0.0/8`); raises `InvalidRequest`."""
        try:
            return cls(tuple(ipaddress.ip_network(text.strip()) for text in texts if text.strip()))
        except ValueError as failure:
            raise InvalidRequest(f"{NETWORKS_VARIABLE}: {failure}", param="networks") from None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Reach:
        """What the operator allowed, separated by commas."""
        values = os.environ if environ is None else environ
        return cls.parse(values.get(NETWORKS_VARIABLE, "").split(","))

    def allows(self, address: Address) -> bool:
        """Whether a delivery may go to an address."""
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self.networks):
            return True
        if address.is_multicast or any(address in network for network in _TRANSLATED):
            return False
        return address.is_global

    def resolve(self, host: str, port: int) -> list[str]:
        """The host's addresses that are allowed, to be connected to as they are.

        Looking the name up once more would let its owner change the answer in between. Raises
        OSError where there are none.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(each[4][0]) for each in found]
        allowed = [each for each in addresses if self.allows(_parse(each))]
        if not allowed:
            raise AddressRefused(
                f"{host} is {addresses[0]}, which is not public: an operator may allow its network "
                f"in {NETWORKS_VARIABLE}"
            )
        return allowed


class AddressRefused(OSError):
    """A host whose addresses are all out of reach."""


def _parse(text: str) -> Address:
    return ipaddress.ip_address(text.partition("%")[0])  # fe80::1%eth0
