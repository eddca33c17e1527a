"""Several engines behind one socket: a process for each GPU, and who of them answers what.

The process that owns the socket reads each connection's first request far enough to know its
adapter, chooses the replica that holds it, and hands the connection itself over (a file descriptor
through a Unix socket). So tokens go from the engine's process to the client with nobody between.

`serving.py` starts it all; `front.py` accepts, `visit.py` reads, `choice.py` chooses by what
`holding.py` read from each replica's metrics, `replica.py` is one process as its parent sees it,
`fleet.py` has a supervisor keep each alive; `work.py` is what they do, by `inbox.py`, the other
side of `handover.py`.
"""

from .places import Place, find_places
from .serving import serve_replicas

__all__ = ["Place", "find_places", "serve_replicas"]
