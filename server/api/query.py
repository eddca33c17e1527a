"""Query parameters, which are refused by name where they would do nothing."""

from __future__ import annotations

from starlette.requests import Request

from .bodies import hint
from .errors import UnknownParameter


def check_query(request: Request, *known: str) -> None:
    """Raise `UnknownParameter` on one that is not `known`; "metadata[" knows all that begin so."""
    for name in request.query_params:
        if name in known or any(name.startswith(each) for each in known if each.endswith("[")):
            continue
        message = f"There is no query parameter '{name[:80]}' here.{hint(name, known)}"
        raise UnknownParameter(message, param=name[:80])
