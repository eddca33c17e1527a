"""What each operation answers when it works, as the types that its route is held to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from registry.canary.documents import CanaryDocument, StandingDocument
from registry.closed_schema import BYTES, TEXT
from registry.collection import CollectionDocument
from registry.diff.documents import DiffDocument
from registry.documents import VersionDocument
from registry.events import Event
from registry.recorded import Of
from registry.snapshot import SnapshotDocument
from registry.webhooks.documents import WebhookDocument

from . import answer_types as types

INDEX, MANIFEST = (f"application/vnd.oci.image.{kind}.v1+json" for kind in ("index", "manifest"))
FollowedEvent = Annotated[dict[str, Any], Of(Event)]

_VERSION = "/adapters/{name}/versions/{reference}"
_ALIAS = "/adapters/{name}/aliases/{alias}"
_CANARY = _ALIAS + "/canary"
_UPLOAD = "/blobs/uploads/{upload}"

# Path and method → the type of the JSON, or TEXT or BYTES; what is not here has no body.
ANSWERS: Mapping[tuple[str, str], Any] = {
    ("/healthz", "get"): types.Status,
    ("/readyz", "get"): types.Status,
    ("/metrics", "get"): TEXT,
    ("/openapi.json", "get"): dict[str, Any],
    ("/blobs/{digest}", "get"): BYTES,
    ("/blobs/uploads", "post"): types.UploadState,
    (_UPLOAD, "get"): types.UploadState,
    (_UPLOAD, "patch"): types.UploadState,
    (_UPLOAD, "put"): types.Uploaded,
    ("/adapters", "get"): types.Adapters,
    ("/adapters/{name}", "get"): SnapshotDocument,
    ("/adapters/{name}/versions", "get"): types.Versions,
    ("/adapters/{name}/versions", "post"): VersionDocument,
    (_VERSION, "get"): VersionDocument,
    (_VERSION, "delete"): VersionDocument,
    (_VERSION + "/diff", "get"): DiffDocument,
    (_VERSION + "/files/{file}", "get"): BYTES,
    (_VERSION + "/referrers", "get"): types.Referrers,
    (_VERSION + "/referrers", "post"): types.ReferrerDocument,
    (_ALIAS, "get"): VersionDocument,
    (_ALIAS, "put"): VersionDocument,
    (_ALIAS + "/history", "get"): types.AliasMoves,
    (_ALIAS + "/rollback", "post"): VersionDocument,
    (_ALIAS + "/protection", "put"): types.Protection,
    (_ALIAS + "/protection", "delete"): types.Protection,
    (_CANARY, "get"): StandingDocument,
    (_CANARY, "put"): CanaryDocument,
    (_CANARY, "delete"): CanaryDocument,
    (_CANARY + "/advance", "post"): CanaryDocument,
    ("/canaries", "get"): types.Canaries,
    ("/events", "get"): types.Events,
    ("/keys", "get"): types.KeyList,
    ("/keys", "post"): types.NewKey,
    ("/keys/{key}", "delete"): types.KeyDocument,
    ("/audit", "get"): types.Audit,
    ("/collections", "post"): CollectionDocument,
    ("/leases", "get"): types.Leases,
    ("/leases", "put"): types.LeaseDocument,
    ("/webhooks", "get"): types.WebhookList,
    ("/webhooks", "post"): types.NewWebhook,
    ("/webhooks/{webhook}/enable", "post"): WebhookDocument,
    ("/webhooks/{webhook}/test", "post"): types.Tried,
    ("/webhooks/{webhook}/deliveries", "get"): types.Deliveries,
    ("/v2/", "get"): types.OciRoot,
    ("/v2/{name}/tags/list", "get"): types.OciTags,
    ("/v2/{name}/manifests/{reference}", "get"): types.OciManifest,
    ("/v2/{name}/blobs/{digest}", "get"): BYTES,
    ("/v2/{name}/referrers/{digest}", "get"): types.OciIndex,
}
# Those whose JSON goes by another media type.
MEDIA_TYPES: Mapping[tuple[str, str], str] = {
    ("/v2/{name}/manifests/{reference}", "get"): MANIFEST,
    ("/v2/{name}/referrers/{digest}", "get"): INDEX,
}
