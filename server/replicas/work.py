"""What a replica's process does: serve what another one hands it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.interpreter import collecting_later
from server.last_words import Witness
from server.settings import Settings
from server.supervision import Tell

from .inbox import Inbox

if TYPE_CHECKING:
    from server.api.draining import DrainingServer

logger = logging.getLogger(__name__)

Report = Callable[[str, int, int], None]
Assemble = Callable[[Settings, Report, Callable[[], None]], "DrainingServer"]
"""`server.assembly.assemble`: settings, a report of progress, and what to call once it is up."""


@dataclass(frozen=True)
class ServeInbox:
    """A child's work: the channel of orders is what it is handed."""

    assemble: Assemble
    number: int

    def __call__(
        self, orders: socket.socket, settings: Settings, tell: Tell, witness: Witness | None
    ) -> None:
        inbox = Inbox(orders, tell, self.number)
        with collecting_later():
            server = self.assemble(settings, _log_stage, inbox.open)
        inbox.feed(server)
        if witness is not None:
            server.be_witnessed(witness)
        server.serve_out([])


def _log_stage(stage: str, done: int, _total: int) -> None:
    if done == 0:
        logger.info("%s", stage)
