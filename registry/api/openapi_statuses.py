"""The statuses that GET /openapi.json lists: those that an operation answers with, and no others.

Requests that reach no operation (no such path, wrong method) and a bug (500) belong to none.
"""

from __future__ import annotations

_ASKED = (400, 401, 403)  # the request is wrong, there is no key, or it may not
_LATER = (503,)  # a catalog or a store that does not answer, templates that are slow
# Path and method → what it answers when it works, where that is not 200 alone.
_DONE: dict[tuple[str, str], tuple[int, ...]] = {
    ("/blobs/{digest}", "get"): (200, 206),
    ("/blobs/{digest}", "head"): (200, 206),
    ("/blobs/uploads", "post"): (202,),
    ("/blobs/uploads/{upload}", "patch"): (202,),
    ("/blobs/uploads/{upload}", "put"): (201,),
    ("/blobs/uploads/{upload}", "delete"): (204,),
    ("/adapters/{name}/versions", "post"): (200, 201),
    ("/adapters/{name}/versions/{reference}/files/{file}", "get"): (200, 206),
    ("/adapters/{name}/versions/{reference}/referrers", "post"): (201,),
    ("/adapters/{name}/aliases/{alias}/canary", "put"): (201,),
    ("/adapters/{name}/aliases/{alias}/canary/reports", "put"): (204,),
    ("/keys", "post"): (201,),
    ("/leases", "delete"): (204,),
    ("/webhooks", "post"): (201,),
    ("/webhooks/{webhook}", "delete"): (204,),
    ("/v2/{name}/blobs/{digest}", "get"): (200, 206),
}
_CONDITIONAL = {
    ("/adapters/{name}/aliases/{alias}", "put"),
    ("/adapters/{name}/aliases/{alias}/canary", "put"),
    ("/adapters/{name}/aliases/{alias}/canary/advance", "post"),
}
# Path and method → refusals beyond those that paths of their kind have.
_MORE: dict[tuple[str, str], tuple[int, ...]] = {
    ("/readyz", "get"): _LATER,
    ("/blobs/{digest}", "get"): (416,),
    ("/blobs/{digest}", "head"): (416,),
    ("/blobs/uploads/{upload}", "patch"): (409, 413, 416),
    ("/blobs/uploads/{upload}", "put"): (409, 413, 416, 422),
    ("/adapters/{name}/versions", "post"): (409, 412, 422),
    ("/adapters/{name}/versions/{reference}", "delete"): (409,),
    ("/adapters/{name}/versions/{reference}/diff", "get"): (409, 422),
    ("/adapters/{name}/versions/{reference}/files/{file}", "get"): (416,),
    ("/adapters/{name}/versions/{reference}/referrers", "post"): (422,),
    ("/adapters/{name}/aliases/{alias}/canary/reports", "put"): (412,),
    ("/leases", "put"): (404,),
    ("/v2/{name}/blobs/{digest}", "get"): (416,),
}
_MEANINGS = {
    200: "Done",
    201: "Made",
    202: "Taken",
    204: "Done; there is nothing to say",
    206: "The part that was asked for",
    400: "Something about the request is wrong; `param` says what",
    401: "No key, or not one of this registry's",
    403: "The key lacks the verb, or the adapter",
    404: "There is nothing by that name",
    409: "It does not fit what is there",
    412: "The alias, or its canary, is not where the request expects it",
    413: "Too large",
    416: "Not a part that there is",
    422: "A push that was refused; `param` says what is wrong in it",
    428: "Say where the alias points now, with If-Match or If-None-Match",
    503: "The catalog, or the store, does not answer, or too many slow templates are at work",
    507: "The registry's disk is full",
}


def statuses_of(path: str, method: str, *, verb: str, has_body: bool) -> dict[int, str]:
    """What an operation may answer, and what that means."""
    found = {*_DONE.get((path, method), (200,)), *_MORE.get((path, method), ())}
    if verb:
        found |= {*_ASKED, *_LATER}
    if verb and method in ("post", "put", "patch"):
        found.add(507)
    if "{" in path:
        found.add(404)
    if "{reference}" in path:
        found.add(409)  # a prefix that fits several versions
    if "/aliases/" in path and method != "get":
        found |= {409, 412}
    if (path, method) in _CONDITIONAL:
        found.add(428)
    if has_body:
        found.add(413)
    return {status: _MEANINGS[status] for status in sorted(found)}
