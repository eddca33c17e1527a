"""How a run trains, and what servable adapter it makes of what was trained."""

from .adapter import Adapter
from .choice import Method, method_for

__all__ = ["Adapter", "Method", "method_for"]
