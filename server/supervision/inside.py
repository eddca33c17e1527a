"""The serving process itself: `python -m server.supervision.inside CONTROL LISTENER`.

CONTROL and LISTENER are numbers of sockets that it inherits.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading

from registry.logs import configure_logging
from server.errors import EngineStopped, StartupError
from server.serve import serve_on

from .control import Kind, Notice, receive_settings

logger = logging.getLogger(__name__)


def main() -> None:
    """Serve until told to leave. Status 1: it could not start, or not go on."""
    control, listener = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    settings = receive_settings(control)
    configure_logging(settings.log_format)
    threading.Thread(target=_leave_with_parent, args=(control,), daemon=True).start()
    try:
        serve_on(listener, settings, announce=lambda: _tell(control, "serving"))
    except StartupError as error:
        _tell(control, "refused", str(error))
    except ModuleNotFoundError as error:
        _tell(control, "missing", error.name or "a package")
    except EngineStopped as error:
        logger.error("%s", error.message)
    else:
        return
    sys.exit(1)


def _tell(control: socket.socket, kind: Kind, text: str = "") -> None:
    control.sendall(Notice(kind, text).line())


def _leave_with_parent(control: socket.socket) -> None:
    """Drain when the parent has gone: nobody holds the port or watches over us any longer."""
    while control.recv(1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
