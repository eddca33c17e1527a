"""One delivery: a signed POST, whose answer is a status and nothing more."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from ssl import SSLContext

import httpcore
import httpx

from .addresses import Reach
from .connecting import GuardedBackend
from .hook import Webhook
from .outcome import Outcome
from .signature import HEADER, sign

_SECONDS = 10.0  # that a delivery may take in all
_CONNECT = 5.0  # seconds


class Sender:
    """Sends to receivers, from any thread."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def send(self, hook: Webhook, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """POST a body to a webhook's URL, signed for this moment."""
        began = time.monotonic()
        named = {
            "content-type": "application/json",
            "user-agent": "hatstand-registry",
            "x-hatstand-webhook": hook.id,
            HEADER: sign(hook.secret, body, int(time.time())),
            **headers,
        }
        try:
            status = self._post(hook.url, body, named)
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            reason = str(error) or type(error).__name__
            return Outcome(None, reason[:500], time.monotonic() - began)
        error_text = "" if 200 <= status < 300 else f"answered {status}"
        return Outcome(status, error_text, time.monotonic() - began)

    def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        timeouts = {"connect": _CONNECT, "read": _SECONDS, "write": _SECONDS, "pool": _SECONDS}
        with (
            httpcore.ConnectionPool(
                ssl_context=self._certificates,
                network_backend=GuardedBackend(self._reach, _SECONDS),
            ) as pool,
            pool.stream(
                "POST",
                url,
                headers=list(headers.items()),
                content=body,
                extensions={"timeout": timeouts},
            ) as response,
        ):
            return int(response.status)

    @cached_property
    def _certificates(self) -> SSLContext:
        return httpx.create_ssl_context()
