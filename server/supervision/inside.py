"""The serving process itself: `python -m server.supervision.inside CONTROL HANDED`.

CONTROL and HANDED are numbers of sockets that it inherits; requests come through the second.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading

from registry.logs import configure_logging
from server.errors import EngineStopped, StartupError

from .control import Notice, Work

logger = logging.getLogger(__name__)


def main() -> None:
    """Serve until told to leave. Status 1: it could not start, or not go on."""
    control, handed = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    work = Work.receive(control)
    configure_logging(work.settings.log_format)
    threading.Thread(target=_leave_with_parent, args=(control,), daemon=True).start()

    def tell(notice: Notice) -> None:
        with contextlib.suppress(OSError):  # the parent has gone, which the thread acts on
            control.sendall(notice.line())

    try:
        work.serve(handed, work.settings, tell)
    except StartupError as error:
        tell(Notice("refused", str(error)))
    except ModuleNotFoundError as error:
        tell(Notice("missing", error.name or "a package"))
    except EngineStopped as error:
        logger.error("%s", error.message)
    else:
        return
    sys.exit(1)


def _leave_with_parent(control: socket.socket) -> None:
    """Drain when the parent has gone: nobody holds the port or watches over us any longer."""
    while control.recv(1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
