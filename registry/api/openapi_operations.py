"""Every operation of the registry's API, and what it takes."""

from __future__ import annotations

# Path and method → summary, the verb that a key needs, the body's keys, the query's.
OPERATIONS: dict[tuple[str, str], tuple[str, str, str, str]] = {
    ("/healthz", "get"): ("Whether the process answers.", "", "", ""),
    ("/readyz", "get"): ("Whether the catalog answers.", "", "", ""),
    ("/metrics", "get"): ("Prometheus' text: requests, latencies, bytes.", "read", "", ""),
    ("/openapi.json", "get"): ("This document.", "", "", ""),
    ("/blobs/{digest}", "get"): ("A blob's bytes; takes Range.", "read", "", ""),
    ("/blobs/{digest}", "head"): ("Whether a blob is there, and its size.", "read", "", ""),
    ("/blobs/uploads", "post"): ("Begin an upload.", "push", "", ""),
    ("/blobs/uploads/{upload}", "get"): ("How much has arrived.", "push", "", ""),
    ("/blobs/uploads/{upload}", "patch"): (
        "The next piece, with Content-Range: first-last.",
        "push",
        "bytes",
        "",
    ),
    ("/blobs/uploads/{upload}", "put"): ("Make the upload a blob.", "push", "", "digest"),
    ("/blobs/uploads/{upload}", "delete"): ("Give the upload up.", "push", "", ""),
    ("/adapters", "get"): (
        "A page of adapters, by name; tag and metric may be repeated (metric=exact_match>=0.9).",
        "read",
        "",
        "text base tag metric after limit",
    ),
    ("/adapters/{name}", "get"): ("The newest version and every alias.", "read", "", ""),
    ("/adapters/{name}/versions", "get"): ("All versions, oldest first.", "read", "", ""),
    ("/adapters/{name}/versions", "post"): (
        "Commit uploaded blobs as a version: 201, or 200 when it was there.",
        "push",
        "manifest alias why tags allow_new_base",
        "",
    ),
    ("/adapters/{name}/versions/{reference}", "get"): (
        "A version by number, digest, prefix or alias.",
        "read",
        "",
        "",
    ),
    ("/adapters/{name}/versions/{reference}", "delete"): ("Withdraw it.", "delete", "", "why"),
    ("/adapters/{name}/versions/{reference}/diff", "get"): (
        "What changed since another version of it: documents by key, weights by layer.",
        "read",
        "",
        "against",
    ),
    ("/adapters/{name}/versions/{reference}/files/{file}", "get"): (
        "One file of a version; takes Range.",
        "read",
        "",
        "",
    ),
    ("/adapters/{name}/versions/{reference}/referrers", "get"): (
        "What is said about a version.",
        "read",
        "",
        "artifact_type",
    ),
    ("/adapters/{name}/versions/{reference}/referrers", "post"): (
        "Say something about a version.",
        "push",
        "artifact_type content",
        "",
    ),
    ("/adapters/{name}/aliases/{alias}", "get"): ("Where it points, as ETag too.", "read", "", ""),
    ("/adapters/{name}/aliases/{alias}", "put"): (
        "Move it: If-Match says where it points now, If-None-Match: * that it is new.",
        "alias",
        "target why",
        "",
    ),
    ("/adapters/{name}/aliases/{alias}/history", "get"): ("Every move.", "read", "", ""),
    ("/adapters/{name}/aliases/{alias}/rollback", "post"): ("Undo a move.", "alias", "why", ""),
    ("/adapters/{name}/aliases/{alias}/protection", "put"): (
        "Let only keys with the verb protect move it.",
        "protect",
        "",
        "",
    ),
    ("/adapters/{name}/aliases/{alias}/protection", "delete"): (
        "Let every key with the verb alias move it.",
        "protect",
        "",
        "",
    ),
    ("/adapters/{name}/aliases/{alias}/canary", "get"): (
        "How its newest canary stands or ended.",
        "read",
        "",
        "",
    ),
    ("/adapters/{name}/aliases/{alias}/canary", "put"): (
        "Try a version behind it, by rules: If-Match says where the alias points now.",
        "alias",
        "target rules why",
        "",
    ),
    ("/adapters/{name}/aliases/{alias}/canary", "delete"): (
        "Give all requests back to the version that the alias points at.",
        "alias",
        "",
        "why",
    ),
    ("/adapters/{name}/aliases/{alias}/canary/advance", "post"): (
        "Begin the canary's next step: If-Match takes its ETag.",
        "alias",
        "why",
        "",
    ),
    ("/adapters/{name}/aliases/{alias}/canary/reports", "put"): (
        "How the requests of one step went at one server, in place of its last report.",
        "report",
        "canary step holder stable target refusal",
        "",
    ),
    ("/canaries", "get"): ("Every canary that runs.", "read", "", ""),
    ("/events", "get"): (
        "What happened after a cursor: a page, or with Accept: text/event-stream a stream.",
        "read",
        "",
        "after limit",
    ),
    ("/keys", "get"): ("Every key, without secrets.", "admin", "", ""),
    ("/keys", "post"): ("A new key.", "admin", "name verbs patterns expires_in", ""),
    ("/keys/{key}", "delete"): ("Revoke a key.", "admin", "", ""),
    ("/audit", "get"): ("Who changed what, newest first.", "admin", "", "before limit"),
    ("/collections", "post"): ("Remove what nothing needs.", "admin", "grace dry_run", ""),
    ("/leases", "get"): ("Who uses which version.", "read", "", ""),
    ("/leases", "put"): ("Use a version for a while.", "read", "digest holder seconds", ""),
    ("/leases", "delete"): ("Give a lease back.", "read", "", "digest holder"),
    ("/webhooks", "get"): ("Every webhook, without secrets.", "admin", "", ""),
    ("/webhooks", "post"): (
        "Tell a URL of events; the answer alone has the secret.",
        "admin",
        "url kinds patterns",
        "",
    ),
    ("/webhooks/{webhook}", "delete"): ("Tell it nothing any more.", "admin", "", ""),
    ("/webhooks/{webhook}/enable", "post"): ("Try one again that was given up.", "admin", "", ""),
    ("/webhooks/{webhook}/test", "post"): (
        "Send it a webhook.test; what came of it.",
        "admin",
        "",
        "",
    ),
    ("/webhooks/{webhook}/deliveries", "get"): ("Its newest deliveries.", "admin", "", ""),
    ("/v2/", "get"): ("OCI distribution is spoken here, to read.", "read", "", ""),
    ("/v2/{name}/tags/list", "get"): ("Aliases and numbers, as tags.", "read", "", "n last"),
    ("/v2/{name}/manifests/{reference}", "get"): ("A manifest, by tag or digest.", "read", "", ""),
    ("/v2/{name}/blobs/{digest}", "get"): ("A blob.", "read", "", ""),
    ("/v2/{name}/referrers/{digest}", "get"): ("An index.", "read", "", "artifactType"),
}


def queries_of(path: str, method: str) -> list[str] | None:
    """The query parameters that an operation takes; None where they are nobody's business.

    Probes and the like are asked by programs that add some of their own.
    """
    _, verb, _, query = OPERATIONS.get((path, method), ("", "", "", ""))
    return query.split() if verb else None
