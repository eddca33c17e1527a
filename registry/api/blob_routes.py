"""Blobs: HEAD, ranged GET, and uploads in pieces."""

from __future__ import annotations

import re

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from registry.blobs import StoredBlob, missing
from registry.errors import InvalidRequest, RegistryError

from .answer_types import Uploaded, UploadState
from .desk import Desk

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_CONTENT_RANGE = re.compile(r"(?:bytes )?(\d{1,18})-(\d{1,18})(?:/(?:\d{1,18}|\*))?")
_PIECE = 1 << 20  # bytes handed to the disk at once


class BlobRoutes:
    """Whoever knows a blob's digest and may read or push may have its bytes."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def get(self, request: Request) -> Response:
        """The bytes, or with `Range: bytes=a-b` a part of them."""
        (await self._desk.gate.admit(request)).require("read")
        return await blob_response(self._desk, request, request.path_params["digest"])

    async def begin(self, request: Request) -> Response:
        (await self._desk.gate.admit(request)).require("push")
        upload = await anyio.to_thread.run_sync(self._desk.uploads.begin)
        return self._state(request, upload, 0, 202)

    async def state(self, request: Request) -> Response:
        """Where to go on after a cut."""
        (await self._desk.gate.admit(request)).require("push")
        upload = request.path_params["upload"]
        offset = await anyio.to_thread.run_sync(self._desk.uploads.offset, upload)
        return self._state(request, upload, offset, 200)

    async def append(self, request: Request) -> Response:
        """One piece, with `Content-Range: first-last`; what arrives before a cut is kept."""
        (await self._desk.gate.admit(request)).require("push")
        upload, start = request.path_params["upload"], _start(request)
        appending = await anyio.to_thread.run_sync(self._desk.uploads.append, upload, start)
        try:
            held = bytearray()
            try:
                async for piece in request.stream():
                    held += piece
                    if len(held) >= _PIECE:
                        await anyio.to_thread.run_sync(appending.write, bytes(held))
                        held.clear()
            finally:
                appending.write(bytes(held))
        finally:
            with anyio.CancelScope(shield=True):  # a cut is no reason to lose what came
                await anyio.to_thread.run_sync(appending.close)
        return self._state(request, upload, appending.offset, 202)

    async def finish(self, request: Request) -> Response:
        (await self._desk.gate.admit(request)).require("push")
        digest = check_digest(request.query_params.get("digest", ""))
        upload, blobs = request.path_params["upload"], self._desk.registry.blobs
        size = await anyio.to_thread.run_sync(self._desk.uploads.finish, upload, digest, blobs)
        answer: Uploaded = {"digest": digest, "size": size}
        return JSONResponse(answer, status_code=201)

    async def cancel(self, request: Request) -> Response:
        (await self._desk.gate.admit(request)).require("push")
        await anyio.to_thread.run_sync(self._desk.uploads.cancel, request.path_params["upload"])
        return Response(status_code=204)

    def _state(self, request: Request, upload: str, offset: int, status: int) -> Response:
        location = f"{request.scope.get('root_path', '')}/blobs/uploads/{upload}"
        values: UploadState = {"upload": upload, "offset": offset}
        return JSONResponse(values, status_code=status, headers={"location": location})


async def blob_response(
    desk: Desk, request: Request, digest: str, media_type: str = "application/octet-stream"
) -> Response:
    """A blob, whole or in part; only the head of it for HEAD."""
    blobs = desk.registry.blobs
    found = await anyio.to_thread.run_sync(blobs.find, check_digest(digest))
    if found is None:
        raise missing(digest)
    start, stop = _asked(request.headers.get("range", ""), found)
    is_part = (start, stop) != (0, found.size)
    headers = {
        "content-length": str(stop - start),
        "docker-content-digest": digest,
        "etag": f'"{digest}"',
        "accept-ranges": "bytes",
    }
    if is_part:
        headers["content-range"] = f"bytes {start}-{stop - 1}/{found.size}"
    status = 206 if is_part else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    pieces = await anyio.to_thread.run_sync(blobs.read, digest, start, stop)
    return StreamingResponse(pieces, status, headers=headers, media_type=media_type)


def check_digest(digest: str) -> str:
    """The digest if it is a whole one; raises `InvalidRequest`."""
    if not _DIGEST.fullmatch(digest):
        raise InvalidRequest(
            f"{digest[:80]!r} is no digest: write sha256: and 64 hex digits", param="digest"
        )
    return digest


def _start(request: Request) -> int:
    text = request.headers.get("content-range", "")
    match = _CONTENT_RANGE.fullmatch(text)
    if match is None:
        raise InvalidRequest("say which bytes these are: Content-Range: first-last")
    return int(match[1])


def _asked(text: str, found: StoredBlob) -> tuple[int, int]:
    """First byte and the one after the last; several ranges at once mean the whole."""
    match = _RANGE.fullmatch(text)
    if match is None or match[0] == "bytes=-":
        return 0, found.size
    first, last = match[1], match[2]
    if not first:
        return max(0, found.size - int(last)), found.size
    start, stop = int(first), min(int(last) + 1 if last else found.size, found.size)
    if start >= stop:
        raise _RangeNotThere(f"the blob has {found.size} bytes", param="range")
    return start, stop


class _RangeNotThere(RegistryError):
    """The part asked for lies outside of the blob."""

    status = 416
    code = "range_not_satisfiable"
