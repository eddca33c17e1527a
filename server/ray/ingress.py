"""Where requests come in: each goes to a replica that has its adapter, if Serve knows of one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from server.api.errors import PayloadTooLarge, error_response
from server.api.wishes import ADAPTER
from server.errors import ServingError, Unavailable
from server.replicas.visit import model_of

from .in_place import Head, Question

logger = logging.getLogger(__name__)

RETRY_AFTER = 1.0  # seconds, told when a replica was lost


class Ingress:
    """Passes requests on with their adapter as Serve's `multiplexed_model_id`."""

    def __init__(self, engines: DeploymentHandle, max_body: int) -> None:
        self._engines = engines.options(stream=True, method_name="answer")
        self._max_body = max_body

    async def __call__(self, request: Request) -> Response:
        try:
            return await self._pass_on(request)
        except ServingError as error:
            return error_response(error)

    async def _pass_on(self, request: Request) -> Response:
        body = await self._read(request)
        named = request.headers.get(ADAPTER)
        model = named or model_of(request.method, request.url.path, body)
        engines = self._engines.options(multiplexed_model_id=model) if model else self._engines
        pieces = engines.remote(_question(request, body))
        try:
            head = await anext(pieces)
        except (RayError, RayServeException) as error:
            logger.error("a request was lost: %s", error)
            raise Unavailable(
                "The replica that had this request was lost.", retry_after=RETRY_AFTER
            ) from None
        assert isinstance(head, Head)
        answer = StreamingResponse(_bodies(pieces), status_code=head.status)
        answer.raw_headers = head.headers
        return answer

    async def _read(self, request: Request) -> bytes:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > self._max_body:
                raise PayloadTooLarge(f"The body is over the limit of {self._max_body} bytes.")
        return bytes(body)


async def _bodies(pieces: DeploymentResponseGenerator) -> AsyncIterator[bytes]:
    """The rest of an answer; when the client leaves, the replica is told."""
    try:
        async for piece in pieces:
            yield piece
    finally:
        pieces.cancel()


def _question(request: Request, body: bytes) -> Question:
    client = (request.client.host, request.client.port) if request.client else None
    return Question(
        method=request.method,
        path=request.url.path,
        query=request.url.query.encode(),
        headers=list(request.headers.raw),
        body=body,
        client=client,
    )
