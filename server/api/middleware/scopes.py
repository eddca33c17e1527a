"""A route that needs a key with the right scope."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from server.api.errors import InvalidApiKey, ScopeMissing
from server.api.keys import ApiKey, KeyRing, Scope
from server.api.permission import permit


class RequireScope:
    """Lets a request through when the ring is open, or its bearer key allows `scope`.

    The request's state then has the key's tenant, and what it names has to match its patterns.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing, scope: Scope) -> None:
        self.app = app
        self.keys = keys
        self.scope = scope

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        if not self.keys.is_open:
            key = self._check(Headers(scope=scope).get("authorization", ""))
            scope.setdefault("state", {})["tenant"] = key.tenant
            permit(key.patterns, self.keys.prefix_scope(key))
        await self.app(scope, receive, send)

    def _check(self, authorization: str) -> ApiKey:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise InvalidApiKey("Give an API key: 'Authorization: Bearer <key>'.")
        key = self.keys.find(token.strip())
        if key is None:
            raise InvalidApiKey("This API key is not one of this server's.")
        if not key.allows(self.scope):
            raise ScopeMissing(f"This API key lacks the scope '{self.scope}'.")
        return key
