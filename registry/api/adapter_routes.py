"""Adapters and their versions: list, search, show, commit, withdraw."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from registry.admission import admit
from registry.aliases import AliasMove
from registry.canonical import canonical_json
from registry.commit import NewVersion
from registry.diff import diff_versions
from registry.documents import summary_document, version_document
from registry.errors import Corrupted, InvalidRequest, NotFound
from registry.manifest import Manifest
from registry.pages import LARGEST_PAGE, MetricCondition, Search
from registry.references import Reference, check_alias, check_name
from registry.versions import Version

from .access import Caller
from .answer_types import Adapters, Versions
from .answers import number_of, read_json, text_of, texts_of
from .blob_routes import blob_response
from .desk import Desk

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/=-]{0,62}")


class AdapterRoutes:
    """`/adapters…`, as far as aliases are not concerned."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._diffing = anyio.CapacityLimiter(1)  # it reads two whole adapters

    async def index(self, request: Request) -> Response:
        """A page of adapters: `text`, `base`, `tag` and `metric` narrow it down."""
        caller = await self._desk.gate.admit(request)
        caller.require("read")
        search, limit = _search(request), number_of(request, "limit", 100, most=LARGEST_PAGE)
        find = partial(self._desk.registry.search, search, limit=max(1, limit))
        page = await anyio.to_thread.run_sync(
            partial(find, after=request.query_params.get("after", ""))
        )
        items = [summary_document(each) for each in page.items if caller.may("read", each.name)]
        answer: Adapters = {"adapters": items, "next": page.next}
        return JSONResponse(answer)

    async def show(self, request: Request) -> Response:
        """What a bare name and each alias mean now: all that a server needs to follow."""
        name, _ = await self._name(request, "read")
        snapshot = await anyio.to_thread.run_sync(self._desk.registry.snapshot, name)
        return JSONResponse(snapshot.to_dict())

    async def versions(self, request: Request) -> Response:
        name, _ = await self._name(request, "read")
        versions = await anyio.to_thread.run_sync(self._desk.registry.versions, name)
        answer: Versions = {"versions": [version_document(version) for version in versions]}
        return JSONResponse(answer)

    async def version(self, request: Request) -> Response:
        """A version by number, digest, prefix or alias."""
        return JSONResponse(version_document(await self.find(request)))

    async def file(self, request: Request) -> Response:
        """One file of a version, by its name."""
        version, name = await self.find(request), request.path_params["file"]
        blob = version.manifest.files.get(name)
        if blob is None:
            raise NotFound(f"{version.ref} has no file {name[:128]!r}", param="file")
        return await blob_response(self._desk, request, blob.digest)

    async def diff(self, request: Request) -> Response:
        """What changed since `against`, another version of the same adapter."""
        name, _ = await self._name(request, "read")
        after = _reference(name, request.path_params["reference"])
        before = _reference(name, request.query_params.get("against", ""))
        compare = partial(diff_versions, self._desk.registry, str(before), str(after))
        found = await anyio.to_thread.run_sync(compare, limiter=self._diffing)
        return JSONResponse(found.to_dict())

    async def commit(self, request: Request) -> Response:
        """Make uploaded blobs a version: validate, then one transaction."""
        name, caller = await self._name(request, "push")
        values = await read_json(request, self._desk.settings.max_body)
        alias = text_of(values, "alias")
        if alias:
            caller.require("alias", name)
            check_alias(alias)
        version = await anyio.to_thread.run_sync(self._commit, name, caller, values, alias or None)
        return JSONResponse(version_document(version), status_code=201 if version.is_new else 200)

    async def withdraw(self, request: Request) -> Response:
        name, caller = await self._name(request, "delete")
        why = request.query_params.get("why", "")[:2000]
        reference = _reference(name, request.path_params["reference"])
        version = await anyio.to_thread.run_sync(
            partial(self._desk.registry.withdraw, reference, by=caller.name, why=why)
        )
        return JSONResponse(version_document(version))

    async def find(self, request: Request) -> Version:
        """The version that a path means, if the caller may read it."""
        name, _ = await self._name(request, "read")
        reference = _reference(name, request.path_params["reference"])
        return await anyio.to_thread.run_sync(self._desk.registry.resolve, reference)

    async def _name(self, request: Request, verb: Any) -> tuple[str, Caller]:
        name = check_name(request.path_params["name"])
        caller = await self._desk.gate.admit(request)
        caller.require(verb, name)
        return name, caller

    def _commit(
        self, name: str, caller: Caller, values: dict[str, Any], alias: str | None
    ) -> Version:
        registry, manifest = self._desk.registry, _manifest(values)
        tags = texts_of(values, "tags")
        for tag in tags:
            if not _TAG.fullmatch(tag):
                raise InvalidRequest(f"{tag[:80]!r} is no tag", param="tags")
        candidate = admit(manifest, registry.blobs, size_limit=self._desk.settings.size_limit)
        with registry.staging.stage() as staging:
            staging.add_bytes(manifest.to_bytes())
            staging.publish(registry.blobs)
        new = NewVersion(
            manifest,
            candidate.base_fingerprint,
            caller.name,
            values.get("allow_new_base") is True,
            base_name=candidate.lock.base.name,
            tags=tags,
            metrics=candidate.lock.metrics,
        )
        why = text_of(values, "why")
        move = AliasMove(caller.name, why, None, caller.may("protect", name))
        version, is_new = registry.commit(name, new, alias=alias, move=move)
        return replace(version, report=candidate.report, is_new=is_new)


def _manifest(values: dict[str, Any]) -> Manifest:
    asked = values.get("manifest")
    if not isinstance(asked, dict):
        raise InvalidRequest("the body needs a manifest", param="manifest")
    try:
        content = canonical_json(asked)
    except ValueError as failure:
        raise InvalidRequest(f"the manifest: {failure}", param="manifest") from None
    try:
        manifest = Manifest.from_bytes(content)
    except Corrupted as fault:  # a manifest that we hold would be; this one is somebody's wish
        raise InvalidRequest(fault.message, param="manifest") from None
    if manifest.to_bytes() != content:
        # What we do not know would not be stored, and the digest would be another.
        raise InvalidRequest("the manifest holds keys that are not known here", param="manifest")
    return manifest


def _reference(name: str, target: str) -> Reference:
    return Reference.parse(f"{name}@{target}")


def _search(request: Request) -> Search:
    query = request.query_params
    return Search(
        text=query.get("text", "")[:63],
        base=query.get("base", "")[:255],
        tags=tuple(query.getlist("tag")[:8]),
        metrics=tuple(MetricCondition.parse(text) for text in query.getlist("metric")[:8]),
    )
