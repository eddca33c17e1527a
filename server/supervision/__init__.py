"""Small parents of serving processes: they hold the port, and start again what dies.

`supervisor.py` keeps one child alive, whatever it serves; `child.py` is its process as the parent
sees it, `inside.py` that process itself, `control.py` what the two tell each other. `alone.py` has
one child on the port, for which `stand_in.py` answers while there is none; `server.replicas` has
several, to which it hands connections. How a dead child's answers are ended: `server.last_words`.
"""

from .alone import supervise
from .child import Child, ChildEnded
from .control import Notice, Tell, Work
from .stand_in import StandIn, refusal
from .supervisor import Supervisor

__all__ = [
    "Child",
    "ChildEnded",
    "Notice",
    "StandIn",
    "Supervisor",
    "Tell",
    "Work",
    "refusal",
    "supervise",
]
