"""What a response was asked with, a page at a time."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from server.api.documents.response import InputItems
from server.api.tuning.paging import read_paging
from server.errors import InvalidRequest

_NEWEST_FIRST, _OLDEST_FIRST = "desc", "asc"


def input_page(items: list[dict[str, Any]], request: Request) -> InputItems:
    """A page of `items`, which are oldest first; as OpenAI's, newest first unless told otherwise.

    Raises `InvalidRequest` on a query that is wrong.
    """
    paging = read_paging(request, default=20, beside=("order",))
    order = request.query_params.get("order", _NEWEST_FIRST)
    if order not in (_NEWEST_FIRST, _OLDEST_FIRST):
        raise InvalidRequest("'order' must be 'asc' or 'desc'.", param="order")
    listed = items if order == _OLDEST_FIRST else items[::-1]
    if paging.after is not None:
        places = [place for place, item in enumerate(listed) if item.get("id") == paging.after]
        if not places:
            raise InvalidRequest("'after' must be an item's id.", param="after")
        listed = listed[places[0] + 1 :]
    page = listed[: paging.limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0].get("id") if page else None,
        "last_id": page[-1].get("id") if page else None,
        "has_more": len(listed) > len(page),
    }
