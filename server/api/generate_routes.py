"""POST /v1/chat/completions and POST /v1/completions."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from .bodies import parse_body
from .chat_body import ChatBody
from .chat_format import ChatFormat
from .completion_body import CompletionBody
from .completion_format import CompletionFormat
from .generation import Generation
from .intake import Intake
from .wishes import Wishes


class GenerateRoutes:
    """The two endpoints that make the engine work."""

    def __init__(self, *, intake: Intake, generation: Generation) -> None:
        self._intake = intake
        self._generation = generation

    async def chat(self, request: Request) -> Response:
        body = parse_body(await request.body(), ChatBody)
        body.check()
        job = await self._intake.chat(body, Wishes.read(request.headers))
        return await self._generation.respond(request, job, ChatFormat(job))

    async def completion(self, request: Request) -> Response:
        body = parse_body(await request.body(), CompletionBody)
        body.check()
        job = await self._intake.completion(body, Wishes.read(request.headers))
        return await self._generation.respond(request, job, CompletionFormat(job))
