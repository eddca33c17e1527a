"""Pure ASGI layers around every route, outermost first: id, log, errors, limits, deadline."""

from .access_log import AccessLog
from .body_limit import BodyLimit
from .deadline import Deadline
from .error_handler import ErrorHandler
from .in_flight import InFlight
from .request_id import RequestId
from .scopes import RequireScope

__all__ = [
    "AccessLog",
    "BodyLimit",
    "Deadline",
    "ErrorHandler",
    "InFlight",
    "RequestId",
    "RequireScope",
]
