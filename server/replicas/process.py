"""What runs in a replica's own process."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from registry.logs import configure_logging
from server.errors import StartupError
from server.interpreter import settle_interpreter
from server.settings import Settings

from .inbox import Inbox
from .places import Place

if TYPE_CHECKING:
    from server.api.draining import DrainingServer

logger = logging.getLogger(__name__)

Report = Callable[[str, int, int], None]
Assemble = Callable[[Settings, Report, Callable[[], None]], "DrainingServer"]
"""`server.serve.assemble`: settings, a report of progress, and what to call once it is up."""

NOT_AS_ASKED, FAILED = 2, 1  # exit statuses


def run_replica(
    place: Place,
    settings: Settings,
    assemble: Assemble,
    orders: socket.socket,
    notes: socket.socket,
) -> None:
    """Serve what comes through `orders`; ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's goes to the parent too
    configure_logging(settings.log_format)
    settings = replace(settings, engine=replace(settings.engine, device=place.device))
    inbox = Inbox(orders, notes, place.number)
    try:
        server = assemble(settings, _log_stage, inbox.open)
    except StartupError as error:
        logger.error("%s", error)
        sys.exit(NOT_AS_ASKED)
    settle_interpreter()
    inbox.serve(server)
    sys.exit(FAILED if server.has_failed else 0)


def _log_stage(stage: str, done: int, _total: int) -> None:
    if done == 0:
        logger.info("%s", stage)
