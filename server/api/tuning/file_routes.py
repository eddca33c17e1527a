"""`/v1/files`: rows to train on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

import anyio.to_thread
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from registry.conversations import find_bad_rows
from registry.tuning import Queue
from registry.tuning.errors import InvalidUpload
from registry.tuning.files import PIECE, TRAINING, Files, StoredFile
from server.api.documents.tuning import Deleted
from server.api.errors import MissingParameter
from server.api.permission import owner
from server.errors import InvalidRequest

from .documents import file_document, list_document
from .paging import read_paging

_MOST_FILES = 10_000  # OpenAI's own limit of a page


class FileRoutes:
    """OpenAI's files, as far as fine-tuning needs them; a key sees those of its like."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    @property
    def _files(self) -> Files:
        return self._queue.of(owner()).files

    async def upload(self, request: Request) -> Response:
        """A form with `file` and `purpose`; nothing but `fine-tune` is of any use here."""
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise InvalidRequest("The body must be a multipart form with 'file' and 'purpose'.")
        async with request.form(max_files=1, max_fields=8) as form:
            file, purpose = form.get("file"), form.get("purpose")
            if not isinstance(file, UploadFile):
                raise MissingParameter("'file' is required.", param="file")
            if purpose != TRAINING:
                raise InvalidRequest(f"'purpose' must be '{TRAINING}'.", param="purpose")
            add = partial(self._add, file.filename or "", file.file)
            stored = await anyio.to_thread.run_sync(add)
        return JSONResponse(file_document(stored))

    def _add(self, name: str, file: BinaryIO) -> StoredFile:
        """Keep a file of good rows; raises `InvalidUpload` that names the bad ones."""
        files = self._files
        stored = files.add(name, TRAINING, _read(file))
        file.seek(0)
        if problems := find_bad_rows(file):
            files.remove(stored.id)
            raise InvalidUpload(f"{name}: " + "; ".join(problems), param="file")
        return stored

    async def index(self, request: Request) -> Response:
        paging = read_paging(request, default=_MOST_FILES, most=_MOST_FILES, beside=("purpose",))
        find = partial(
            self._files.page,
            purpose=request.query_params.get("purpose"),
            after=paging.after,
            limit=paging.limit,
        )
        files, more = await anyio.to_thread.run_sync(find)
        return JSONResponse(list_document([file_document(f) for f in files], has_more=more))

    async def show(self, request: Request) -> Response:
        stored = await anyio.to_thread.run_sync(self._files.get, request.path_params["file_id"])
        return JSONResponse(file_document(stored))

    async def content(self, request: Request) -> Response:
        """The bytes as they were uploaded."""
        pieces = await anyio.to_thread.run_sync(self._files.content, request.path_params["file_id"])
        return StreamingResponse(pieces, media_type="application/octet-stream")

    async def remove(self, request: Request) -> Response:
        file_id = request.path_params["file_id"]
        await anyio.to_thread.run_sync(self._files.remove, file_id)
        answer: Deleted = {"id": file_id, "object": "file", "deleted": True}
        return JSONResponse(answer)


def _read(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece
