"""Binding the port: what is said when it cannot be had."""

from __future__ import annotations

import contextlib

import pytest

from server.api.listener import bind
from server.errors import StartupError


def test_taken_port_is_said_with_a_way_out() -> None:
    with contextlib.closing(bind("127.0.0.1", 0)) as holder:
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(StartupError, match=rf"Port {port} .* is taken.*--port"):
            bind("127.0.0.1", port)


def test_foreign_address() -> None:
    with pytest.raises(StartupError, match=r"192\.0\.2\.1"):
        bind("192.0.2.1", 0)
    with pytest.raises(StartupError, match="no address of this machine"):
        bind("no such host", 0)
