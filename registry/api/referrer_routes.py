"""What is said about a version later: evaluations, approvals, signatures."""

from __future__ import annotations

import json
from functools import partial

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from registry.errors import InvalidRequest
from registry.references import Reference
from registry.referrers import Referrer, add_referrer, list_referrers

from .answer_types import ReferrerDocument, Referrers
from .answers import read_json, text_of
from .desk import Desk


class ReferrerRoutes:
    """`/adapters/{name}/versions/{reference}/referrers`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def index(self, request: Request) -> Response:
        """What is said about a version; `artifact_type` narrows it down."""
        reference = _reference(request)
        (await self._desk.gate.admit(request)).require("read", reference.name)
        version = await anyio.to_thread.run_sync(self._desk.registry.resolve, reference)
        kind = request.query_params.get("artifact_type", "")
        find = partial(list_referrers, self._desk.registry, version.digest, kind)
        found = await anyio.to_thread.run_sync(find)
        answer: Referrers = {"referrers": [referrer_document(each) for each in found]}
        return JSONResponse(answer)

    async def add(self, request: Request) -> Response:
        """State something: `artifact_type` and `content`, a JSON object."""
        reference = _reference(request)
        caller = await self._desk.gate.admit(request)
        caller.require("push", reference.name)
        values = await read_json(request, self._desk.settings.max_body)
        kind, content = text_of(values, "artifact_type"), values.get("content")
        if not isinstance(content, dict):
            raise InvalidRequest("content must be a JSON object", param="content")
        version = await anyio.to_thread.run_sync(self._desk.registry.resolve, reference)
        add = partial(add_referrer, self._desk.registry, version, kind, content, by=caller.name)
        return JSONResponse(referrer_document(await anyio.to_thread.run_sync(add)), 201)


def referrer_document(referrer: Referrer) -> ReferrerDocument:
    """A referrer; its content is the blob that the manifest's one layer names."""
    return {
        "subject": referrer.subject,
        "digest": referrer.digest,
        "artifact_type": referrer.artifact_type,
        "manifest": json.loads(referrer.manifest),
        "at": referrer.at.isoformat(),
        "by": referrer.by,
    }


def _reference(request: Request) -> Reference:
    return Reference.parse(f"{request.path_params['name']}@{request.path_params['reference']}")
