"""Read-only OCI distribution: `oras pull host/sql:prod` fetches an adapter."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from registry.canonical import digest_of
from registry.errors import NotFound
from registry.manifest import MANIFEST_TYPE
from registry.pages import LARGEST_PAGE
from registry.references import Reference, check_name
from registry.referrers import list_referrers

from .answer_types import OciIndex, OciReferrer, OciTags
from .answers import number_of
from .blob_routes import blob_response, check_digest
from .desk import Desk

_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


class OciRoutes:
    """`/v2/…`: adapters are repositories; aliases and version numbers are tags."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def root(self, request: Request) -> Response:
        """Says that OCI is spoken here, and (401) that a key is wanted."""
        await self._desk.gate.admit(request)
        return JSONResponse({}, headers={"docker-distribution-api-version": "registry/2.0"})

    async def tags(self, request: Request) -> Response:
        """All of them, or with `n` so many of those after `last`."""
        name = await self._name(request)
        tags = sorted(await anyio.to_thread.run_sync(self._tags, name))
        most = number_of(request, "n", len(tags), most=LARGEST_PAGE)
        later = [tag for tag in tags if tag > request.query_params.get("last", "")]
        answer: OciTags = {"name": name, "tags": later[:most]}
        return JSONResponse(answer, headers=_next(request, later, most))

    async def manifest(self, request: Request) -> Response:
        """The manifest by tag or digest: a version's, or that of a referrer by digest."""
        name, target = await self._name(request), request.path_params["reference"]
        content = await anyio.to_thread.run_sync(self._manifest, name, target)
        values = json.loads(content)
        headers = {"docker-content-digest": digest_of(content), "content-length": str(len(content))}
        body = b"" if request.method == "HEAD" else content
        return Response(body, headers=headers, media_type=values["mediaType"])

    async def blob(self, request: Request) -> Response:
        await self._name(request)
        return await blob_response(self._desk, request, request.path_params["digest"])

    async def referrers(self, request: Request) -> Response:
        """An index of what is said about a manifest."""
        await self._name(request)
        digest = check_digest(request.path_params["digest"])
        kind = request.query_params.get("artifactType", "")
        found = await anyio.to_thread.run_sync(list_referrers, self._desk.registry, digest, kind)
        manifests: list[OciReferrer] = [
            {
                "mediaType": MANIFEST_TYPE,
                "digest": each.digest,
                "size": len(each.manifest.encode()),
                "artifactType": each.artifact_type,
            }
            for each in found
        ]
        headers = {"oci-filters-applied": "artifactType"} if kind else None
        index: OciIndex = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": manifests}
        return JSONResponse(index, headers=headers, media_type=_INDEX_TYPE)

    async def _name(self, request: Request) -> str:
        caller = await self._desk.gate.admit(request)
        name = check_name(request.path_params["name"])
        caller.require("read", name)
        return name

    def _tags(self, name: str) -> list[str]:
        registry = self._desk.registry
        numbers = [str(version.number) for version in registry.versions(name)]
        return [*registry.aliases(name), *numbers]

    def _manifest(self, name: str, target: str) -> bytes:
        registry = self._desk.registry
        try:
            reference = Reference(name) if target == "latest" else None
            version = registry.resolve(reference or Reference.parse(f"{name}@{target}"))
            return version.manifest.to_bytes()
        except NotFound:
            if not target.startswith("sha256:"):
                raise
        for version in registry.versions(name):
            for referrer in list_referrers(registry, version.digest):
                if referrer.digest == target:
                    return referrer.manifest.encode()
        raise NotFound(f"{name} has no manifest {target}", param="reference")


def _next(request: Request, tags: list[str], most: int) -> dict[str, str] | None:
    """Where the list goes on, as OCI says it."""
    if not 0 < most < len(tags):
        return None
    query = urlencode({"n": most, "last": tags[most - 1]})
    return {"link": f'<{request.url.path}?{query}>; rel="next"'}
