"""Bodies in, JSON out: the one place that reads bodies and renders errors."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from registry.errors import (
    BlobsMissing,
    InvalidRequest,
    NotFound,
    RegistryError,
    TooLarge,
)
from registry.validation import parse_object

from .answer_types import Error, ErrorDetail

logger = logging.getLogger(__name__)


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; raises `TooLarge` as soon as it is over `limit` bytes."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise TooLarge(f"the body is over {limit} bytes")
    return bytes(body)


async def read_json(request: Request, limit: int) -> dict[str, Any]:
    """The body as a JSON object, {} where there is none."""
    body = await read_body(request, limit)
    return parse_object(body, source="the body", error=InvalidRequest) if body else {}


def text_of(values: Mapping[str, Any], key: str, default: str = "", *, longest: int = 2000) -> str:
    """A string of a JSON body; raises `InvalidRequest`."""
    value = values.get(key, default)
    if not isinstance(value, str) or len(value) > longest:
        raise InvalidRequest(f"{key} must be a text of at most {longest} characters", param=key)
    return value


def texts_of(values: Mapping[str, Any], key: str, *, most: int = 32) -> list[str]:
    """A list of strings of a JSON body; raises `InvalidRequest`."""
    value = values.get(key, [])
    if not isinstance(value, list) or len(value) > most:
        raise InvalidRequest(f"{key} must be a list of at most {most} texts", param=key)
    return [text_of({key: item}, key) for item in value]


def number_of(request: Request, key: str, default: int, *, most: int, least: int = 0) -> int:
    """A whole number of the query; raises `InvalidRequest`."""
    text = request.query_params.get(key)
    if text is None:
        return default
    if not is_number(text) or not least <= int(text) <= most:
        raise InvalidRequest(f"{key} must be a number from {least} to {most}", param=key)
    return int(text)


def is_number(text: str) -> bool:
    """Whether it is a whole number in ASCII's digits; `int` does not read "²"."""
    return text.isascii() and text.isdigit() and len(text) <= 18


def error_response(error: RegistryError) -> JSONResponse:
    """An error as JSON, with its own status, and with Retry-After where waiting helps."""
    values: ErrorDetail = {
        "message": error.message,
        "code": error.code,
        "param": error.param,
    }
    if isinstance(error, BlobsMissing):
        values["digests"] = list(error.digests)
    headers = {}
    if error.status == 401:
        headers["www-authenticate"] = 'Basic realm="hatstand"'
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    answer: Error = {"error": values}
    return JSONResponse(answer, status_code=error.status, headers=headers)


async def refused(_request: Request, error: Exception) -> Response:
    """Any error that a route raised."""
    if isinstance(error, RegistryError):
        if error.status >= 500:
            logger.error("%s: %s", error.code, error.message)
        return error_response(error)
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)
    if isinstance(error, HTTPException):
        known: RegistryError = NotFound("there is no such path: GET /openapi.json lists them")
        if error.status_code != 404:
            known = InvalidRequest(str(error.detail))
        response = error_response(known)
        response.status_code = error.status_code
        return response
    logger.error("unforeseen", exc_info=error)
    return error_response(RegistryError("the registry made a mistake; its log has the details"))


def dump(value: object) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"))
