"""The registry's ASGI application: routes, and the layers around them."""

from __future__ import annotations

import anyio.to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

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
from .answers import refused
from .audit_trail import AuditTrail
from .blob_routes import BlobRoutes
from .canary_routes import CanaryRoutes
from .caretaker import Caretaker
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
            Route("/events", EventRoutes(desk).events),
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


def _status_routes(desk: Desk) -> list[Route]:
    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_request: Request) -> Response:
        """Reads the catalog, so that a lost database shows."""
        await anyio.to_thread.run_sync(desk.registry.newest_event)
        return JSONResponse({"status": "ready"})

    async def openapi(_request: Request) -> Response:
        return JSONResponse(openapi_document())

    return [
        Route("/healthz", health),
        Route("/readyz", ready),
        Route("/openapi.json", openapi),
    ]


def _metrics_route(desk: Desk, metrics: Metrics) -> Route:
    async def show(request: Request) -> Response:
        (await desk.gate.admit(request)).require("read")
        gauges = await anyio.to_thread.run_sync(census, desk.registry.catalog)
        return Response(metrics.render(gauges), media_type=CONTENT_TYPE)

    return Route("/metrics", show)


def _blob_routes(blobs: BlobRoutes) -> list[Route]:
    return [
        Route("/blobs/uploads", blobs.begin, methods=["POST"]),
        Route("/blobs/uploads/{upload}", blobs.state, methods=["GET"]),
        Route("/blobs/uploads/{upload}", blobs.append, methods=["PATCH"]),
        Route("/blobs/uploads/{upload}", blobs.finish, methods=["PUT"]),
        Route("/blobs/uploads/{upload}", blobs.cancel, methods=["DELETE"]),
        Route("/blobs/{digest}", blobs.get, methods=["GET"]),
    ]


def _adapter_routes(adapters: AdapterRoutes, referrers: ReferrerRoutes) -> list[Route]:
    one = "/adapters/{name}/versions/{reference}"
    return [
        Route("/adapters", adapters.index),
        Route("/adapters/{name}", adapters.show),
        Route("/adapters/{name}/versions", adapters.versions, methods=["GET"]),
        Route("/adapters/{name}/versions", adapters.commit, methods=["POST"]),
        Route(one, adapters.version, methods=["GET"]),
        Route(one, adapters.withdraw, methods=["DELETE"]),
        Route(one + "/files/{file}", adapters.file),
        Route(one + "/diff", adapters.diff),
        Route(one + "/referrers", referrers.index, methods=["GET"]),
        Route(one + "/referrers", referrers.add, methods=["POST"]),
    ]


def _alias_routes(aliases: AliasRoutes) -> list[Route]:
    one = "/adapters/{name}/aliases/{alias}"
    return [
        Route(one, aliases.show, methods=["GET"]),
        Route(one, aliases.set, methods=["PUT"]),
        Route(one + "/history", aliases.history),
        Route(one + "/rollback", aliases.roll_back, methods=["POST"]),
        Route(one + "/protection", aliases.protect, methods=["PUT", "DELETE"]),
    ]


def _canary_routes(canaries: CanaryRoutes) -> list[Route]:
    one = "/adapters/{name}/aliases/{alias}/canary"
    return [
        Route("/canaries", canaries.index),
        Route(one, canaries.show, methods=["GET"]),
        Route(one, canaries.start, methods=["PUT"]),
        Route(one, canaries.abort, methods=["DELETE"]),
        Route(one + "/advance", canaries.advance, methods=["POST"]),
        Route(one + "/reports", canaries.report, methods=["PUT"]),
    ]


def _admin_routes(admin: AdminRoutes) -> list[Route]:
    return [
        Route("/keys", admin.keys, methods=["GET"]),
        Route("/keys", admin.create_key, methods=["POST"]),
        Route("/keys/{key}", admin.revoke_key, methods=["DELETE"]),
        Route("/audit", admin.audit),
        Route("/collections", admin.collect, methods=["POST"]),
        Route("/leases", admin.leases, methods=["GET"]),
        Route("/leases", admin.lease, methods=["PUT"]),
        Route("/leases", admin.release, methods=["DELETE"]),
    ]


def _webhooks(desk: Desk) -> WebhookRoutes:
    catalog, reach = desk.registry.catalog, desk.settings.webhook_reach
    return WebhookRoutes(desk, Webhooks(catalog, reach), Courier(catalog, Sender(reach).send))


def _webhook_routes(webhooks: WebhookRoutes) -> list[Route]:
    one = "/webhooks/{webhook}"
    return [
        Route("/webhooks", webhooks.index, methods=["GET"]),
        Route("/webhooks", webhooks.add, methods=["POST"]),
        Route(one, webhooks.remove, methods=["DELETE"]),
        Route(one + "/enable", webhooks.enable, methods=["POST"]),
        Route(one + "/test", webhooks.test, methods=["POST"]),
        Route(one + "/deliveries", webhooks.deliveries, methods=["GET"]),
    ]


def _oci_routes(oci: OciRoutes) -> list[Route]:
    return [
        Route("/v2/", oci.root),
        Route("/v2/{name}/tags/list", oci.tags),
        Route("/v2/{name}/manifests/{reference}", oci.manifest),
        Route("/v2/{name}/blobs/{digest}", oci.blob),
        Route("/v2/{name}/referrers/{digest}", oci.referrers),
    ]
