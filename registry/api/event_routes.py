"""The feed: a list to poll, or a stream to follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import anyio.to_thread
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from registry.documents import document
from registry.errors import InvalidRequest, Unavailable
from registry.events import Event

from .access import Caller
from .answer_types import Events
from .answers import dump, is_number, number_of
from .desk import Desk

_LARGEST_CURSOR = 10**15
_LARGEST_PAGE = 1000


class EventRoutes:
    """`/events`. A cursor is an event's number; it means the same after a restart."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._num_followers = 0

    async def events(self, request: Request) -> Response:
        """Events after the cursor `after` (or `Last-Event-ID`); without one, from now on.

        `Accept: text/event-stream` gets a stream that goes on, anything else one page.
        """
        caller = await self._desk.gate.admit(request)
        caller.require("read")
        cursor = await self._cursor(request)
        if "text/event-stream" in request.headers.get("accept", ""):
            if self._num_followers >= self._desk.settings.max_followers:
                raise Unavailable("too many follow the events already: poll instead")
            stream = self._follow(caller, cursor)
            return EventSourceResponse(stream, ping=int(self._desk.settings.ping_interval) or 1)
        limit = number_of(request, "limit", 100, most=_LARGEST_PAGE, least=1)
        events = await self._after(cursor, limit)
        shown = [document(event) for event in events if caller.may("read", event.adapter)]
        answer: Events = {"events": shown, "cursor": events[-1].id if events else cursor}
        return JSONResponse(answer)

    async def _follow(self, caller: Caller, cursor: int) -> AsyncIterator[ServerSentEvent]:
        self._num_followers += 1
        try:
            # At once, so that a follower knows where it stands before anything happens.
            yield ServerSentEvent(dump({"cursor": cursor}), event="cursor", id=str(cursor))
            while True:
                for event in await self._after(cursor, _LARGEST_PAGE):
                    cursor = event.id
                    if caller.may("read", event.adapter):
                        data = dump(document(event))
                        yield ServerSentEvent(data, event=event.kind, id=str(cursor))
                await asyncio.sleep(self._desk.settings.event_interval)
        finally:
            self._num_followers -= 1

    async def _after(self, cursor: int, limit: int) -> list[Event]:
        return await anyio.to_thread.run_sync(
            partial(self._desk.registry.events, cursor, limit=limit)
        )

    async def _cursor(self, request: Request) -> int:
        last = request.headers.get("last-event-id")
        if last is not None:
            if not is_number(last) or int(last) > _LARGEST_CURSOR:
                raise InvalidRequest("Last-Event-ID must be an event's number")
            return int(last)
        if "after" in request.query_params:
            return number_of(request, "after", 0, most=_LARGEST_CURSOR)
        return await anyio.to_thread.run_sync(self._desk.registry.newest_event)
