"""Network namespaces as machines: a bridge, and for each of them a cable that can be pulled."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field


def can_make_nodes() -> bool:
    """Whether this process may make network namespaces: iproute2, and root or its like."""
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@dataclass(frozen=True)
class Node:
    """One machine: nothing of another's loopback is here."""

    name: str
    address: str
    cable: str  # its interface at the bridge

    def command(self, command: list[str]) -> list[str]:
        """What runs a command there."""
        return ["ip", "netns", "exec", self.name, *command]

    def url(self, port: int) -> str:
        return f"http://{self.address}:{port}"

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        """Nothing arrives there and nothing leaves, and nobody is told."""
        _ip("link", "set", self.cable, "down")
        try:
            yield
        finally:
            _ip("link", "set", self.cable, "up")


@dataclass
class Network:
    """Nodes that reach one another; the process that made it reaches them all."""

    bridge: str
    subnet: str  # its first three numbers
    _running: ExitStack
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(2))

    def node(self, name: str) -> Node:
        number = next(self._numbers)
        node = Node(f"{self.bridge}-{name}", f"{self.subnet}.{number}", f"{self.bridge}v{number}")
        _ip("netns", "add", node.name)
        self._running.callback(_ip, "netns", "del", node.name)
        inside = ("eth0", "netns", node.name)
        _ip("link", "add", node.cable, "type", "veth", "peer", "name", *inside)
        _ip("link", "set", node.cable, "master", self.bridge, "up")
        _ip("-n", node.name, "addr", "add", f"{node.address}/24", "dev", "eth0")
        for interface in ("lo", "eth0"):
            _ip("-n", node.name, "link", "set", interface, "up")
        return node


@contextmanager
def network() -> Iterator[Network]:
    """A bridge whose nodes are gone, with all that runs in them, when the context ends."""
    bridge = f"hs{os.getpid() % 100_000}"
    subnet = f"10.213.{os.getpid() % 256}"  # another run's may be on this machine
    with ExitStack() as running:
        _ip("link", "add", bridge, "type", "bridge")
        running.callback(_ip, "link", "del", bridge)
        _ip("addr", "add", f"{subnet}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        yield Network(bridge, subnet, running)
