"""The registry's ASGI application: routes, and the layers around them."""

from __future__ import annotations

import anyio.to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from registry.audit import AuditLog
from registry.census import census
from registry.embedded import Registry
from registry.errors import RegistryError
from registry.keys import Keys
from registry.tracing import Traced, Tracing
from registry.uploads import open_uploads
from registry.webhooks.courier import Courier
from registry.webhooks.hook import Webhooks
from registry.webhooks.sender import Sender

from .access import Gate
from .adapter_routes import AdapterRoutes
from .admin_routes import AdminRoutes
from .alias_routes import AliasRoutes
from .answer_types import Status
from .answers import refused
from .audit_trail import AuditTrail
from .blob_routes import BlobRoutes
from .canary_routes import CanaryRoutes
from .caretaker import Caretaker
from .described_route import DescribedRoute
from .desk import Desk
from .event_routes import EventRoutes
from .metrics import CONTENT_TYPE, Metrics
from .oci_routes import OciRoutes
from .openapi import openapi_document
from .referrer_routes import ReferrerRoutes
from .request_meter import RequestMeter
from .settings import RegistryApiSettings
from .webhook_routes import WebhookRoutes


def create_app(
    registry: Registry,
    settings: RegistryApiSettings | None = None,
    *,
    tracing: Tracing | None = None,
) -> Starlette:
    """The HTTP layer over one registry, to be served alone or mounted below a path.

    Its lifespan cares for the registry meanwhile: whoever mounts it runs that. `tracing` takes the
    spans of its requests, unless they are those of whoever mounts it.
    """
    settings = settings or RegistryApiSettings()
    keys, audit = Keys(registry.catalog), AuditLog(registry.catalog)
    desk = Desk(
        registry=registry,
        gate=Gate(keys, is_open=settings.is_open),
        uploads=open_uploads(registry, size_limit=settings.size_limit),
        settings=settings,
    )
    metrics = Metrics()
    return Starlette(
        routes=[
            *_status_routes(desk),
            _metrics_route(desk, metrics),
            *_blob_routes(BlobRoutes(desk)),
            *_adapter_routes(AdapterRoutes(desk), ReferrerRoutes(desk)),
            *_alias_routes(AliasRoutes(desk)),
            *_canary_routes(CanaryRoutes(desk)),
            DescribedRoute("/events", EventRoutes(desk).events),
            *_admin_routes(AdminRoutes(desk, keys, audit)),
            *_webhook_routes(_webhooks(desk)),
            *_oci_routes(OciRoutes(desk)),
        ],
        middleware=[
            *([] if tracing is None else [Middleware(Traced, tracing=tracing)]),
            Middleware(RequestMeter, metrics=metrics),
            Middleware(AuditTrail, log=audit),
        ],
        exception_handlers={Exception: refused, RegistryError: refused, 404: refused, 405: refused},
        lifespan=lambda _app: Caretaker(registry, settings).at_work(),
    )


def _status_routes(desk: Desk) -> list[BaseRoute]:
    async def health(_request: Request) -> Response:
        answer: Status = {"status": "ok"}
        return JSONResponse(answer)

    async def ready(_request: Request) -> Response:
        """Reads the catalog, so that a lost database shows."""
        await anyio.to_thread.run_sync(desk.registry.newest_event)
        answer: Status = {"status": "ready"}
        return JSONResponse(answer)

    async def openapi(_request: Request) -> Response:
        return JSONResponse(openapi_document())

    return [
        DescribedRoute("/healthz", health),
        DescribedRoute("/readyz", ready),
        DescribedRoute("/openapi.json", openapi),
    ]


def _metrics_route(desk: Desk, metrics: Metrics) -> DescribedRoute:
    async def show(request: Request) -> Response:
        (await desk.gate.admit(request)).require("read")
        gauges = await anyio.to_thread.run_sync(census, desk.registry.catalog)
        return Response(metrics.render(gauges), media_type=CONTENT_TYPE)

    return DescribedRoute("/metrics", show)


def _blob_routes(blobs: BlobRoutes) -> list[BaseRoute]:
    return [
        DescribedRoute("/blobs/uploads", blobs.begin, methods=["POST"]),
        DescribedRoute("/blobs/uploads/{upload}", blobs.state, methods=["GET"]),
        DescribedRoute("/blobs/uploads/{upload}", blobs.append, methods=["PATCH"]),
        DescribedRoute("/blobs/uploads/{upload}", blobs.finish, methods=["PUT"]),
        DescribedRoute("/blobs/uploads/{upload}", blobs.cancel, methods=["DELETE"]),
        DescribedRoute("/blobs/{digest}", blobs.get, methods=["GET"]),
    ]


def _adapter_routes(adapters: AdapterRoutes, referrers: ReferrerRoutes) -> list[BaseRoute]:
    one = "/adapters/{name}/versions/{reference}"
    return [
        DescribedRoute("/adapters", adapters.index),
        DescribedRoute("/adapters/{name}", adapters.show),
        DescribedRoute("/adapters/{name}/versions", adapters.versions, methods=["GET"]),
        DescribedRoute("/adapters/{name}/versions", adapters.commit, methods=["POST"]),
        DescribedRoute(one, adapters.version, methods=["GET"]),
        DescribedRoute(one, adapters.withdraw, methods=["DELETE"]),
        DescribedRoute(one + "/files/{file}", adapters.file),
        DescribedRoute(one + "/diff", adapters.diff),
        DescribedRoute(one + "/referrers", referrers.index, methods=["GET"]),
        DescribedRoute(one + "/referrers", referrers.add, methods=["POST"]),
    ]


def _alias_routes(aliases: AliasRoutes) -> list[BaseRoute]:
    one = "/adapters/{name}/aliases/{alias}"
    return [
        DescribedRoute(one, aliases.show, methods=["GET"]),
        DescribedRoute(one, aliases.set, methods=["PUT"]),
        DescribedRoute(one + "/history", aliases.history),
        DescribedRoute(one + "/rollback", aliases.roll_back, methods=["POST"]),
        DescribedRoute(one + "/protection", aliases.protect, methods=["PUT", "DELETE"]),
    ]


def _canary_routes(canaries: CanaryRoutes) -> list[BaseRoute]:
    one = "/adapters/{name}/aliases/{alias}/canary"
    return [
        DescribedRoute("/canaries", canaries.index),
        DescribedRoute(one, canaries.show, methods=["GET"]),
        DescribedRoute(one, canaries.start, methods=["PUT"]),
        DescribedRoute(one, canaries.abort, methods=["DELETE"]),
        DescribedRoute(one + "/advance", canaries.advance, methods=["POST"]),
        DescribedRoute(one + "/reports", canaries.report, methods=["PUT"]),
    ]


def _admin_routes(admin: AdminRoutes) -> list[BaseRoute]:
    return [
        DescribedRoute("/keys", admin.keys, methods=["GET"]),
        DescribedRoute("/keys", admin.create_key, methods=["POST"]),
        DescribedRoute("/keys/{key}", admin.revoke_key, methods=["DELETE"]),
        DescribedRoute("/audit", admin.audit),
        DescribedRoute("/collections", admin.collect, methods=["POST"]),
        DescribedRoute("/leases", admin.leases, methods=["GET"]),
        DescribedRoute("/leases", admin.lease, methods=["PUT"]),
        DescribedRoute("/leases", admin.release, methods=["DELETE"]),
    ]


def _webhooks(desk: Desk) -> WebhookRoutes:
    catalog, reach = desk.registry.catalog, desk.settings.webhook_reach
    return WebhookRoutes(desk, Webhooks(catalog, reach), Courier(catalog, Sender(reach).send))


def _webhook_routes(webhooks: WebhookRoutes) -> list[BaseRoute]:
    one = "/webhooks/{webhook}"
    return [
        DescribedRoute("/webhooks", webhooks.index, methods=["GET"]),
        DescribedRoute("/webhooks", webhooks.add, methods=["POST"]),
        DescribedRoute(one, webhooks.remove, methods=["DELETE"]),
        DescribedRoute(one + "/enable", webhooks.enable, methods=["POST"]),
        DescribedRoute(one + "/test", webhooks.test, methods=["POST"]),
        DescribedRoute(one + "/deliveries", webhooks.deliveries, methods=["GET"]),
    ]


def _oci_routes(oci: OciRoutes) -> list[BaseRoute]:
    return [
        DescribedRoute("/v2/", oci.root),
        DescribedRoute("/v2/{name}/tags/list", oci.tags),
        DescribedRoute("/v2/{name}/manifests/{reference}", oci.manifest),
        DescribedRoute("/v2/{name}/blobs/{digest}", oci.blob),
        DescribedRoute("/v2/{name}/referrers/{digest}", oci.referrers),
    ]
