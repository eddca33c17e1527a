"""Keys, the audit log, leases and collections."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from registry.audit import AuditLog
from registry.collection import DEFAULT_GRACE, collect
from registry.console import collection_values
from registry.documents import document
from registry.errors import InvalidRequest
from registry.keys import Key, Keys

from .answer_types import Audit, KeyDocument, KeyList, Leases, NewKey
from .answers import number_of, read_json, text_of, texts_of
from .blob_routes import check_digest
from .desk import Desk

_LONGEST_LEASE = 24 * 3600.0  # seconds


class AdminRoutes:
    """All but leases want the verb `admin`."""

    def __init__(self, desk: Desk, keys: Keys, audit: AuditLog) -> None:
        self._desk = desk
        self._keys = keys
        self._audit = audit

    async def keys(self, request: Request) -> Response:
        """Every key, without its secret, which nobody knows any more."""
        (await self._desk.gate.admit(request)).require("admin")
        keys = await anyio.to_thread.run_sync(self._keys.list)
        answer: KeyList = {"keys": [_key_document(key) for key in keys]}
        return JSONResponse(answer)

    async def create_key(self, request: Request) -> Response:
        """A new key; its token is in this answer and nowhere else."""
        caller = await self._desk.gate.admit(request)
        caller.require("admin")
        values = await read_json(request, self._desk.settings.max_body)
        create = partial(
            self._keys.create,
            text_of(values, "name"),
            texts_of(values, "verbs"),
            texts_of(values, "patterns") or ["*"],
            expires_at=_expiry(values),
            by=caller.name,
        )
        key, token = await anyio.to_thread.run_sync(create)
        answer: NewKey = {**_key_document(key), "token": token}
        return JSONResponse(answer, status_code=201)

    async def revoke_key(self, request: Request) -> Response:
        (await self._desk.gate.admit(request)).require("admin")
        key = await anyio.to_thread.run_sync(self._keys.revoke, request.path_params["key"])
        return JSONResponse(_key_document(key))

    async def audit(self, request: Request) -> Response:
        """The newest entries first; `before` goes further back."""
        (await self._desk.gate.admit(request)).require("admin")
        limit = number_of(request, "limit", 100, most=1000, least=1)
        before = number_of(request, "before", 0, most=10**15) or None
        read = partial(self._audit.read, before=before, limit=limit)
        entries = await anyio.to_thread.run_sync(read)
        answer: Audit = {
            "entries": [{**dataclasses.asdict(each), "at": each.at.isoformat()} for each in entries]
        }
        return JSONResponse(answer)

    async def collect(self, request: Request) -> Response:
        """Remove what nothing needs: `grace` in seconds, `dry_run` to look only."""
        (await self._desk.gate.admit(request)).require("admin")
        values = await read_json(request, self._desk.settings.max_body)
        grace, dry_run = _seconds(values, "grace", DEFAULT_GRACE), values.get("dry_run", False)
        run = partial(collect, self._desk.registry, grace=grace, dry_run=dry_run is True)
        return JSONResponse(collection_values(await anyio.to_thread.run_sync(run)))

    async def leases(self, request: Request) -> Response:
        (await self._desk.gate.admit(request)).require("read")
        leases = await anyio.to_thread.run_sync(self._desk.registry.leases)
        answer: Leases = {"leases": [document(lease) for lease in leases]}
        return JSONResponse(answer)

    async def lease(self, request: Request) -> Response:
        """Say that `holder` uses the version with `digest` for so many `seconds`."""
        (await self._desk.gate.admit(request)).require("read")
        values = await read_json(request, self._desk.settings.max_body)
        digest, holder = check_digest(text_of(values, "digest")), text_of(values, "holder")
        seconds = _seconds(values, "seconds", 0.0)
        if not 0 < len(holder) <= 255 or seconds > _LONGEST_LEASE:
            raise InvalidRequest("a lease has a holder and lasts a day at most", param="holder")
        take = partial(self._desk.registry.lease, digest, holder, seconds)
        return JSONResponse(document(await anyio.to_thread.run_sync(take)))

    async def release(self, request: Request) -> Response:
        (await self._desk.gate.admit(request)).require("read")
        digest = check_digest(request.query_params.get("digest", ""))
        holder = request.query_params.get("holder", "")
        await anyio.to_thread.run_sync(self._desk.registry.release, digest, holder)
        return Response(status_code=204)


def _key_document(key: Key) -> KeyDocument:
    return {
        "id": key.id,
        "name": key.name,
        "verbs": list(key.verbs),
        "patterns": list(key.patterns),
        "created_at": key.created_at.isoformat(),
        "created_by": key.created_by,
        "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
        "revoked_at": None if key.revoked_at is None else key.revoked_at.isoformat(),
        "is_valid": key.is_valid,
    }


def _seconds(values: dict[str, Any], key: str, default: float) -> float:
    value = values.get(key, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 10**9:
        raise InvalidRequest(f"{key} must be a number of seconds", param=key)
    return float(value)


def _expiry(values: dict[str, Any]) -> datetime | None:
    seconds = _seconds(values, "expires_in", 0.0)
    return datetime.now(UTC) + timedelta(seconds=seconds) if seconds else None
