"""POST /v1/responses, and what was kept of earlier ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import anyio.to_thread
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from registry.errors import CatalogUnavailable
from server.api.bodies import parse_body
from server.api.documents.response import OutputItem
from server.api.documents.tuning import Deleted
from server.api.generation import Generation
from server.api.intake import Intake
from server.api.keys import hash_key
from server.api.message_body import ToolCall
from server.api.query import check_query
from server.api.wishes import Wishes
from server.errors import InvalidRequest, ServingError

from .body import ResponsesBody
from .chat import chat_body, renamed
from .document import ResponseDocument, new_id
from .events import ResponseFormat
from .input_items import input_page
from .items import Message, as_messages
from .store import KeptResponse, ResponseStore

logger = logging.getLogger(__name__)

RESPONSES = "/v1/responses"
ONE_RESPONSE = RESPONSES + "/{response_id}"


class ResponseNotFound(ServingError):
    """Never kept, forgotten by now, or somebody else's."""

    status = 404
    type = "invalid_request_error"
    code = "response_not_found"


class ResponseRoutes:
    """Without a `store` nothing is kept, and nothing can be gone on from."""

    def __init__(
        self, *, intake: Intake, generation: Generation, store: ResponseStore | None
    ) -> None:
        self._intake = intake
        self._generation = generation
        self._store = store

    async def create(self, request: Request) -> Response:
        body = parse_body(await request.body(), ResponsesBody)
        if self._store is None and body.store:
            raise InvalidRequest("This server keeps no responses: 'store' is false.", param="store")
        owner = _owner(request)
        before = await self._before(body, owner)
        try:
            chat = chat_body(body, before)
            job = await self._intake.chat(chat, Wishes.read(request.headers))
        except ServingError as error:
            raise renamed(error) from error

        async def keep(document: ResponseDocument) -> None:
            if self._store is not None and document.is_kept:
                kept = _kept(document, owner, [*before, *as_messages(body.items)])
                document.is_kept = await anyio.to_thread.run_sync(_keep, self._store, kept)

        document = ResponseDocument(body, job, self._store is not None and body.is_kept)
        return await self._generation.respond(request, job, ResponseFormat(document, keep))

    async def show(self, request: Request) -> Response:
        check_query(request)
        return JSONResponse((await self._find(request)).document)

    async def input_items(self, request: Request) -> Response:
        """What the response was asked with."""
        found = await self._find(request)
        return JSONResponse(input_page(list(found.input_items), request))

    async def remove(self, request: Request) -> Response:
        check_query(request)
        found = await self._find(request)
        assert self._store is not None
        await anyio.to_thread.run_sync(self._store.remove, found.id, found.owner)
        answer: Deleted = {"id": found.id, "object": "response", "deleted": True}
        return JSONResponse(answer)

    async def _before(self, body: ResponsesBody, owner: str) -> Sequence[Message]:
        """What was said up to the response that this one follows."""
        if body.previous_response_id is None:
            return ()
        try:
            return (await self._look_up(body.previous_response_id, owner)).messages
        except ResponseNotFound as error:
            error.param = "previous_response_id"
            raise

    async def _find(self, request: Request) -> KeptResponse:
        return await self._look_up(request.path_params["response_id"], _owner(request))

    async def _look_up(self, response_id: str, owner: str) -> KeptResponse:
        found = None
        if self._store is not None:
            found = await anyio.to_thread.run_sync(self._store.find, response_id, owner)
        if found is None:
            raise ResponseNotFound(f"There is no response '{response_id[:80]}' here.")
        return found


def _owner(request: Request) -> str:
    """Whoever holds the same key; all who come without one are the same."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return hash_key(f"{scheme.capitalize()} {token.strip()}" if token else scheme).hex()


def _keep(store: ResponseStore, response: KeptResponse) -> bool:
    """Whether it could be kept: an answer is worth more than its place on a full disk."""
    try:
        store.keep(response)
    except CatalogUnavailable as error:
        logger.error("response %s is not kept: %s", response.id, error.message)
        return False
    return True


def _kept(document: ResponseDocument, owner: str, asked: Sequence[Message]) -> KeptResponse:
    return KeptResponse(
        id=document.id,
        owner=owner,
        messages=[*asked, *_answer(document.output)],
        input_items=[
            {"id": new_id("msg"), **item.model_dump(exclude_none=True)}
            for item in document.body.items
        ],
        document={**document.render()},
    )


def _answer(output: Sequence[OutputItem]) -> list[Message]:
    """The output as the message that it was: words, calls, or both.

    A call that the answer's end cut short was never made, nor was one of a name that none can have.
    """
    words = [item["content"][0]["text"] for item in output if item["type"] == "message"]
    calls = [
        {
            "id": item["call_id"],
            "type": "function",
            "function": {"name": item["name"], "arguments": item["arguments"]},
        }
        for item in output
        if item["type"] == "function_call"
    ]
    made = [call for call in calls if _can_be_sent_back(call)]
    message: Message = {"role": "assistant", "content": "".join(words)}
    return [{**message, "tool_calls": made} if made else message]


def _can_be_sent_back(call: dict[str, Any]) -> bool:
    try:
        ToolCall.model_validate(call)
    except ValidationError:
        return False
    return True
