"""What the routes answer, as types; what a version or a canary is, `registry.documents` says."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from typing_extensions import TypedDict

from registry.alias_history import AliasEvent
from registry.audit import AuditEntry
from registry.canary.documents import CanaryDocument
from registry.documents import SummaryDocument, VersionDocument
from registry.events import Event
from registry.leases import Lease
from registry.manifest import DescriptorDocument
from registry.recorded import Of
from registry.webhooks.deliveries import Delivery
from registry.webhooks.documents import WebhookDocument

LeaseDocument = Annotated[dict[str, Any], Of(Lease)]


class Status(TypedDict):
    """A probe's answer."""

    status: Literal["ok", "ready"]


class ErrorDetail(TypedDict):
    """What went wrong; `digests` are the blobs that a push lacks."""

    message: str
    code: str
    param: str | None
    digests: NotRequired[list[str]]


class Error(TypedDict):
    """An answer that is none."""

    error: ErrorDetail


class UploadState(TypedDict):
    """How many bytes of an upload have arrived."""

    upload: str
    offset: int


class Uploaded(TypedDict):
    """What an upload became."""

    digest: str
    size: int


class Adapters(TypedDict):
    """A page of adapters; `next` is the `after` of the next one."""

    adapters: list[SummaryDocument]
    next: str | None


class Versions(TypedDict):
    """All versions of an adapter, oldest first."""

    versions: list[VersionDocument]


class ReferrerDocument(TypedDict):
    """Something said about the version `subject`; `manifest` is OCI's."""

    subject: str
    digest: str
    artifact_type: str
    manifest: dict[str, Any]
    at: str
    by: str


class Referrers(TypedDict):
    """All that is said about a version."""

    referrers: list[ReferrerDocument]


class AliasMoves(TypedDict):
    """Every move of an alias."""

    events: list[Annotated[dict[str, Any], Of(AliasEvent)]]


class Protection(TypedDict):
    """Whether an alias may be moved by keys with the verb `protect` only."""

    name: str
    alias: str
    is_protected: bool


class Canaries(TypedDict):
    """Every canary that runs."""

    canaries: list[CanaryDocument]


class Events(TypedDict):
    """What happened; `cursor` is the `after` of the next page."""

    events: list[Annotated[dict[str, Any], Of(Event)]]
    cursor: int


class KeyDocument(TypedDict):
    """A key without its secret."""

    id: str
    name: str
    verbs: list[str]
    patterns: list[str]
    created_at: str
    created_by: str
    expires_at: str | None
    revoked_at: str | None
    is_valid: bool


class NewKey(KeyDocument):
    """A key with its secret, which is in this answer and nowhere else."""

    token: str


class KeyList(TypedDict):
    """Every key."""

    keys: list[KeyDocument]


class Audit(TypedDict):
    """Who changed what, newest first."""

    entries: list[Annotated[dict[str, Any], Of(AuditEntry)]]


class Leases(TypedDict):
    """Who uses which version."""

    leases: list[LeaseDocument]


class NewWebhook(WebhookDocument):
    """A webhook with its secret, which is in this answer and nowhere else."""

    secret: str


class WebhookList(TypedDict):
    """Every webhook."""

    webhooks: list[WebhookDocument]


class Deliveries(TypedDict):
    """The newest deliveries of a webhook, newest first."""

    deliveries: list[Annotated[dict[str, Any], Of(Delivery)]]


class Tried(TypedDict):
    """What came of a delivery; no `status` where nobody answered."""

    status: int | None
    error: str
    seconds: float
    is_delivered: bool


class OciRoot(TypedDict):
    """Nothing: the status says it."""


class OciTags(TypedDict):
    """Aliases and numbers."""

    name: str
    tags: list[str]


class OciReferrer(TypedDict):
    """A referrer as OCI lists it."""

    mediaType: str
    digest: str
    size: int
    artifactType: str


class OciIndex(TypedDict):
    """What is said about a manifest."""

    schemaVersion: int
    mediaType: str
    manifests: list[OciReferrer]


class OciManifest(TypedDict):
    """A version's manifest, or that of a referrer, which has a `subject` and `annotations`."""

    schemaVersion: int
    mediaType: str
    artifactType: str
    config: DescriptorDocument
    layers: list[DescriptorDocument]
    subject: NotRequired[DescriptorDocument]
    annotations: NotRequired[dict[str, str]]
