"""`registry serve`: the registry as a server of its own."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn

from registry.embedded import Registry
from registry.errors import CatalogUnavailable, KeyNeeded
from registry.keys import Keys
from registry.loopback import is_loopback

from .app import create_app
from .settings import RegistryApiSettings

_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_GRACE = 5  # seconds that running requests get when the server is stopped


@dataclass(frozen=True)
class Address:
    """Where to listen."""

    host: str
    port: int


def serve(
    registry: Registry,
    address: Address,
    *,
    insecure: bool = False,
    announce: Callable[[str], None] = lambda _url: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; `announce` is told the URL once requests are taken.

    Raises `KeyNeeded` rather than serve other machines without any key, unless `insecure`.
    """
    is_open = is_loopback(address.host) or insecure
    if not is_open and not Keys(registry.catalog).exist():
        raise KeyNeeded(
            f"serving on {address.host} without keys would let anyone who reaches this machine in: "
            "make one with `registry keys create NAME --verb admin`, or say --insecure if "
            "something in front of the registry checks who calls",
            param="host",
        )
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT)
    app = create_app(registry, RegistryApiSettings(is_open=is_open))
    listener = _listen(address)
    with listener:
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=_GRACE
        )
        announce(f"http://{address.host}:{port}")
        uvicorn.Server(config).run(sockets=[listener])


def _listen(address: Address) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as failure:
        raise CatalogUnavailable(f"--host {address.host}: {failure}", param="host") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(where)
    except OSError as failure:
        listener.close()
        raise CatalogUnavailable(
            f"cannot serve on {address.host}:{address.port}: {failure.strerror}; choose another "
            "with --port",
            param="port",
        ) from None
    return listener
