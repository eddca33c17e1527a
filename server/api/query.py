"""Query parameters, which are refused by name where they would do nothing."""

from __future__ import annotations

import difflib

from starlette.requests import Request

from .errors import UnknownParameter


def check_query(request: Request, *known: str) -> None:
    """Raise `UnknownParameter` on one that is not `known`; "metadata[" knows all that begin so."""
    for name in request.query_params:
        if name in known or any(name.startswith(each) for each in known if each.endswith("[")):
            continue
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        message = f"There is no query parameter '{name[:80]}' here.{hint}"
        raise UnknownParameter(message, param=name[:80])
