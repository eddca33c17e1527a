"""What can go wrong while talking to a server, as one tree.

HatstandError
├── ConnectionFailed    nobody answers there
├── RequestTimedOut     the server took longer than the client waits
├── StreamFailed        the stream broke off, or its last event is an error
└── ApiError            the server refused; `status`, `code` and `param` say why
    ├── BadRequest      400, 413, 422
    ├── NotAllowed      401, 403
    ├── NotFound        404
    ├── Conflict        409, 412
    ├── RateLimited     429; `retry_after` in seconds
    └── ServerFault     5xx
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class HatstandError(Exception):
    """Base of the tree; the message is for people."""


class ConnectionFailed(HatstandError):
    """No server answers at that address."""


class RequestTimedOut(HatstandError):
    """The answer did not come in time."""


class StreamFailed(HatstandError):
    """A stream that had begun did not come to its end."""


class ApiError(HatstandError):
    """The server's refusal."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after  # seconds


class BadRequest(ApiError):
    """The request itself is wrong."""


class NotAllowed(ApiError):
    """No API key, a wrong one, or one without the scope."""


class NotFound(ApiError):
    """No such adapter, version, alias or path."""


class Conflict(ApiError):
    """This server's base cannot run the adapter; or an alias points elsewhere than expected."""


class RateLimited(ApiError):
    """The server's queue is full."""


class ServerFault(ApiError):
    """The server failed, is starting or is shutting down."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: BadRequest,
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    412: Conflict,
    413: BadRequest,
    422: BadRequest,
    429: RateLimited,
}


def api_error(status: int, body: Any, headers: Mapping[str, str]) -> ApiError:
    """The error that a refusal stands for; `body` is parsed JSON, or the text if it was none."""
    kind = _BY_STATUS.get(status, ServerFault if status >= 500 else ApiError)
    error = body.get("error") if isinstance(body, dict) else None
    details: Mapping[str, Any] = error if isinstance(error, dict) else {}
    return kind(
        details.get("message") or f"The server answered {status}: {str(body)[:200]}",
        status=status,
        code=details.get("code"),
        param=details.get("param"),
        retry_after=_seconds(headers.get("retry-after")),
    )


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None  # an HTTP date: nothing of ours sends one
