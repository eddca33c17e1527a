"""The query parameters of a list."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from server.api.query import check_query
from server.errors import InvalidRequest

MOST = 100


@dataclass(frozen=True)
class Paging:
    """At most `limit` things that are older than the one with the id `after`."""

    after: str | None
    limit: int


def read_paging(
    request: Request, *, default: int, most: int = MOST, beside: tuple[str, ...] = ()
) -> Paging:
    """Raises `InvalidRequest` on a limit that is none, and on a parameter that is not `beside`."""
    check_query(request, "after", "limit", *beside)
    text = request.query_params.get("limit", str(default))
    if not text.isdecimal() or len(text) > 18 or not 1 <= int(text) <= most:
        raise InvalidRequest(f"'limit' must be 1 to {most}, not {text[:80]!r}.", param="limit")
    return Paging(request.query_params.get("after"), int(text))
