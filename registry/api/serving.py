"""`registry serve`: the registry as a server of its own."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn

from registry.embedded import Registry
from registry.errors import CatalogUnavailable, KeyNeeded
from registry.keys import Keys
from registry.logs import LogFormat, configure_logging
from registry.loopback import is_loopback
from registry.tracing import Tracing, open_tracing

from .app import create_app
from .settings import RegistryApiSettings

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
    log_format: LogFormat = "text",
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
    configure_logging(log_format)
    tracing = open_tracing("hatstand-registry")
    app = create_app(registry, RegistryApiSettings(is_open=is_open), tracing=tracing)
    listener = _listen(address)
    with listener, _closed_at_end(tracing):
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            app,
            http="h11",  # uvicorn's other parser keeps headers for as long as more of them come
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_GRACE,
        )
        announce(f"http://{address.host}:{port}")
        uvicorn.Server(config).run(sockets=[listener])


@contextlib.contextmanager
def _closed_at_end(tracing: Tracing | None) -> Iterator[None]:
    """The last requests' spans are handed over before the process ends."""
    try:
        yield
    finally:
        if tracing is not None:
            tracing.close()


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
