"""Who calls, and what they may do."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import anyio.to_thread
from starlette.requests import Request

from registry.errors import Forbidden, KeyNeeded
from registry.keys import Key, Keys, Verb


@dataclass(frozen=True)
class Caller:
    """Somebody who may call: the holder of a key, or anybody where the registry is open."""

    name: str
    key: Key | None

    def may(self, verb: Verb, adapter: str | None = None) -> bool:
        """Whether the caller may do this to the adapter (None: to any at all)."""
        return self.key is None or self.key.allows(verb, adapter)

    def require(self, verb: Verb, adapter: str | None = None) -> None:
        """Raise `Forbidden` unless the caller may."""
        if not self.may(verb, adapter):
            what = f"{verb!r} on {adapter}" if adapter else f"{verb!r}"
            raise Forbidden(f"the key {self.name!r} is not good for {what}", param="authorization")


class Gate:
    """Finds out who calls.

    Without a key in the registry, everybody is let in where it is open and nobody where not; from
    the first key on, every caller needs one.
    """

    def __init__(self, keys: Keys, *, is_open: bool) -> None:
        self._keys = keys
        self._is_open = is_open

    async def admit(self, request: Request) -> Caller:
        """The caller of a request, also noted on it for the audit log; raises `KeyNeeded`."""
        caller = await anyio.to_thread.run_sync(self._caller, _token(request), _claimed(request))
        request.state.caller = caller.name
        return caller

    def _caller(self, token: str | None, claimed: str) -> Caller:
        if token is not None:
            key = self._keys.find(token)
            return Caller(key.name, key)
        if self._is_open and not self._keys.exist():
            return Caller(claimed, None)
        raise KeyNeeded(
            "this registry wants a key: send `Authorization: Bearer <key>`. "
            "`registry keys create NAME` makes one, beside the registry's folder.",
            param="authorization",
        )


def _token(request: Request) -> str | None:
    """The key, sent as Bearer or, by OCI clients, as a Basic password."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return None


def _claimed(request: Request) -> str:
    """Who a caller without a key says they are: good for a history, not for a decision."""
    name = request.headers.get("x-hatstand-by", "")[:255]
    return name if name and name.isprintable() else "anonymous"
