"""Where every error ends: as a JSON answer, or as the last event of a stream."""

from __future__ import annotations

import logging

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.errors import RegistryError
from server.api.errors import as_serving_error, error_event, error_response
from server.errors import ServingError

logger = logging.getLogger(__name__)


class ErrorHandler:
    """Renders what the layers below raise, in OpenAI's shape."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started: Message | None = None

        async def send_watched(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = message
            await send(message)

        try:
            await self.app(scope, receive, send_watched)
        except ClientDisconnect:
            return  # it left while sending its body: there is nobody to answer
        except Exception as error:
            refusal = as_serving_error(error)
            if refusal.status >= 500:
                self._log(error, scope)
            if started is None:
                headers = scope.get("state", {}).get("model_headers")
                await error_response(refusal, headers)(scope, receive, send)
            elif _is_event_stream(started):
                await _end_stream(refusal, send)
            else:
                raise  # half an answer is out: only breaking the connection is honest

    def _log(self, error: Exception, scope: Scope) -> None:
        known = isinstance(error, ServingError | RegistryError)
        request_id = scope.get("state", {}).get("request_id", "-")
        logger.error("%s (id=%s)", error, request_id, exc_info=None if known else error)


def _is_event_stream(start: Message) -> bool:
    content_type = Headers(raw=start["headers"]).get("content-type", "")
    return content_type.startswith("text/event-stream")


async def _end_stream(error: ServingError, send: Send) -> None:
    await send({"type": "http.response.body", "body": error_event(error), "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
