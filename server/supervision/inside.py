"""The serving process itself: `python -m server.supervision.inside CONTROL HANDED [COPIES PAGES]`.

These are numbers of files that it inherits. Requests come through the socket HANDED; by the last
two its parent can speak for it when it has died.
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
from server.last_words import Witness

from .control import Notice, Work

logger = logging.getLogger(__name__)


def main() -> None:
    """Serve until told to leave. Status 1: it could not start, or not go on."""
    files = [int(number) for number in sys.argv[1:]]
    for file in files:
        os.set_inheritable(file, False)  # or what we start would hold it open when we are gone
    control, handed = (socket.socket(fileno=file) for file in files[:2])
    witness = Witness.inheriting(*files[2:]) if files[2:] else None
    work = Work.receive(control)
    configure_logging(work.settings.log_format)
    threading.Thread(target=_leave_with_parent, args=(control,), daemon=True).start()

    def tell(notice: Notice) -> None:
        with contextlib.suppress(OSError):  # the parent has gone, which the thread acts on
            control.sendall(notice.line())

    try:
        work.serve(handed, work.settings, tell, witness)
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
