"""What only HTTP can get wrong, and the one place that renders any error.

ServingError (server.errors)
├── InvalidRequest                400 invalid_value
│   ├── InvalidJson               400 invalid_json
│   ├── MissingParameter          400 missing_required_parameter
│   ├── UnknownParameter          400 unknown_parameter
│   ├── UnsupportedParameter      400 unsupported_parameter
│   └── PayloadTooLarge           413 payload_too_large
├── InvalidApiKey                 401 invalid_api_key
├── ScopeMissing                  403 insufficient_permissions
├── RouteNotFound                 404 not_found
├── MethodNotAllowed              405 method_not_allowed
└── RequestTimeout                504 timeout
"""

from __future__ import annotations

import json
import logging
import math

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from registry.errors import RegistryError
from server.errors import InvalidRequest, ServingError

from .documents.error import Error

logger = logging.getLogger(__name__)


class InvalidJson(InvalidRequest):
    """The body is not JSON."""

    code = "invalid_json"


class MissingParameter(InvalidRequest):
    """A parameter that the endpoint cannot do without is absent."""

    code = "missing_required_parameter"


class UnknownParameter(InvalidRequest):
    """No such parameter; the message names the nearest one."""

    code = "unknown_parameter"


class UnsupportedParameter(InvalidRequest):
    """A parameter other servers know, which this one does not carry out."""

    code = "unsupported_parameter"


class PayloadTooLarge(InvalidRequest):
    """The body is over the limit."""

    status = 413
    code = "payload_too_large"


class InvalidApiKey(ServingError):
    """No key, or not one of ours."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class ScopeMissing(ServingError):
    """The key is good, but not for this."""

    status = 403
    type = "permission_error"
    code = "insufficient_permissions"


class RouteNotFound(ServingError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class MethodNotAllowed(ServingError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class RequestTimeout(ServingError):
    """The request ran longer than this server allows."""

    status = 504
    code = "timeout"


def as_serving_error(error: Exception) -> ServingError:
    """`error` as one of the tree. What we did not foresee tells the caller nothing about us."""
    if isinstance(error, ServingError):
        return error
    if isinstance(error, RegistryError):
        return _from_registry(error)
    return ServingError("The server made a mistake. Its log has the details.")


def error_body(error: ServingError) -> Error:
    """OpenAI's error object."""
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }


def error_response(error: ServingError, headers: dict[str, str] | None = None) -> JSONResponse:
    """The whole HTTP answer, with Retry-After where waiting helps."""
    extra = dict(headers or {})
    if error.retry_after is not None:
        extra["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if error.status == 401:
        extra["www-authenticate"] = "Bearer"
    return JSONResponse(error_body(error), status_code=error.status, headers=extra)


def error_event(error: ServingError) -> bytes:
    """The same error as the last event of a stream that has begun."""
    return b"data: " + json.dumps(error_body(error)).encode() + b"\n\n"


def from_http_exception(_request: object, error: Exception) -> JSONResponse:
    """Starlette's own refusals (no such path, wrong method), in our shape."""
    assert isinstance(error, HTTPException)
    refusals: dict[int, ServingError] = {
        404: RouteNotFound("There is no such path here. GET /openapi.json lists them."),
        405: MethodNotAllowed("This path does not take that method."),
    }
    refusal = refusals.get(error.status_code) or InvalidRequest(str(error.detail))
    return error_response(refusal, dict(error.headers or {}))


def _from_registry(error: RegistryError) -> ServingError:
    """A registry's error keeps its status, code, parameter and when to come again."""
    rendered = ServingError(str(error), param=error.param, retry_after=error.retry_after)
    rendered.status = error.status
    rendered.code = error.code
    rendered.type = "invalid_request_error" if error.status < 500 else "server_error"
    return rendered
