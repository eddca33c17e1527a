"""A small parent that holds the port, and starts the serving process again when it dies."""

from .child import Child, ChildEnded
from .stand_in import StandIn
from .supervisor import Supervisor, supervise

__all__ = ["Child", "ChildEnded", "StandIn", "Supervisor", "supervise"]
