"""How requests travel: keys, timeouts, and which failures are worth another attempt."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

import httpx
from httpx_retries import Retry, RetryTransport

from .calls import Call, T
from .errors import ConnectionFailed, HatstandError, RequestTimedOut, StreamFailed, api_error

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT = 600.0  # seconds between two bytes of an answer
DEFAULT_RETRIES = 2
_METHODS = ("GET", "POST", "PUT", "DELETE")
# Refusals before anything was done, which say so: a full queue, a server that starts or drains.
_STATUSES = (429, 503)
# A request that arrived may have been carried out: only one that did not is sent again.
_FAILURES = (httpx.ConnectError, httpx.ConnectTimeout)
_FIRST_PAUSE = 0.25  # seconds, doubled each time, shortened at random; Retry-After goes before
_LONGEST_PAUSE = 30.0  # seconds in one go, whatever Retry-After says


class ClientOptions(TypedDict):
    """What httpx's clients take, of either kind."""

    base_url: str
    headers: Mapping[str, str]
    timeout: httpx.Timeout
    transport: RetryTransport


def client_options(
    url: str,
    api_key: str | None,
    timeout: float,
    retries: int,
    transport: httpx.BaseTransport | httpx.AsyncBaseTransport | None,
) -> ClientOptions:
    """One server, reached with a key and with patience. `transport` is for tests."""
    retry = Retry(
        total=retries,
        allowed_methods=_METHODS,
        status_forcelist=_STATUSES,
        retry_on_exceptions=_FAILURES,
        backoff_factor=_FIRST_PAUSE,
        backoff_jitter=0.5,
        max_backoff_wait=_LONGEST_PAUSE,
    )
    return ClientOptions(
        base_url=url.rstrip("/"),
        headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
        timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)),
        transport=RetryTransport(transport, retry),
    )


def outcome(call: Call[T], reply: httpx.Response) -> T:
    """What a good reply means; raises the ApiError that a bad one stands for."""
    return call.parse(_body(check(reply)), reply.headers)


def check(reply: httpx.Response) -> httpx.Response:
    """A good reply as it is; raises the ApiError that a bad one stands for."""
    if reply.is_error:
        raise api_error(reply.status_code, _body(reply), reply.headers)
    return reply


def _body(reply: httpx.Response) -> Any:
    try:
        return reply.json()
    except ValueError:
        return reply.text  # plain text, or something in front of the server answered


@contextlib.contextmanager
def translated(url: str) -> Iterator[None]:
    """httpx's errors as ours."""
    try:
        yield
    except HatstandError:
        raise
    except httpx.ConnectError as error:
        raise ConnectionFailed(
            f"No server answers at {url}. Start one with `hatstand serve --base …`, or name "
            "another address."
        ) from error
    except httpx.TimeoutException as error:
        raise RequestTimedOut(f"{url} took too long to answer.") from error
    except httpx.TransportError as error:
        raise StreamFailed(f"The connection to {url} broke: {error}.") from error
