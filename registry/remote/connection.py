"""Requests to a registry's server: tried again where that is safe, errors as our own."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from registry import errors
from registry.errors import BlobsMissing, CatalogUnavailable, RegistryError, RegistryUnreachable
from registry.identity import whoami
from registry.tracing import Span, current_span, ended

KEY_VARIABLE = "HATSTAND_REGISTRY_KEY"
_SILENCE, _CONNECT = 60.0, 3.0  # seconds
_ATTEMPTS = 4
_FIRST_PAUSE = 0.2  # seconds, doubled after each attempt
_SAFE = frozenset({"GET", "HEAD", "PUT", "DELETE"})  # twice is as good as once


class Connection:
    """One registry's server, from any thread. The key never shows in messages."""

    def __init__(
        self, url: str, key: str | None = None, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise CatalogUnavailable(
                f"{parts.scheme}://{parts.hostname or ''} is no registry's URL: write "
                f"https://host[:port][/path], and the key into {KEY_VARIABLE}",
                param="registry",
            )
        self.url = url.rstrip("/")
        headers = {"x-hatstand-by": whoami()}
        if key:
            headers["authorization"] = f"Bearer {key}"
        self._client = httpx.Client(
            base_url=self.url, headers=headers, timeout=_within(None), transport=transport
        )

    @classmethod
    def open(cls, url: str) -> Connection:
        """A connection with the key of the environment; raises `CatalogUnavailable`."""
        return cls(url, os.environ.get(KEY_VARIABLE))

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: object = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        attempts: int | None = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """One request and its answer; `timeout` is the longest silence, seconds.

        Raises the error that the server names, or `RegistryUnreachable`.
        """
        request = self._client.build_request(
            method,
            self._url(path),
            params=params,
            json=json,
            content=content,
            headers=headers,
            timeout=_within(timeout),
        )
        with self._traced(method) as span:
            request.headers.update(span.headers())
            response = self._send(request, attempts or (_ATTEMPTS if method in _SAFE else 1))
            _note_status(span, response)
            return _checked(response)

    def _send(self, request: httpx.Request, left: int) -> httpx.Response:
        """The answer to the last of so many attempts, or to the first that comes to anything."""
        pause = _FIRST_PAUSE
        while True:
            left -= 1
            try:
                response = self._client.send(request)
            except httpx.HTTPError as failure:
                if left <= 0:
                    raise self._unreachable(failure) from failure
            else:
                if response.status_code != 502 or left <= 0:
                    return response
            time.sleep(pause)
            pause *= 2

    @contextlib.contextmanager
    def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> Iterator[httpx.Response]:
        """An answer whose body is read as it comes; `timeout` is the longest silence, seconds."""
        with self._traced("GET") as span:
            given = {**(headers or {}), **span.headers()}
            try:
                with self._client.stream(
                    "GET", self._url(path), headers=given, timeout=_within(timeout)
                ) as response:
                    _note_status(span, response)
                    if response.status_code >= 400:
                        response.read()
                    yield _checked(response)
            except httpx.HTTPError as failure:
                raise self._unreachable(failure) from failure

    def close(self) -> None:
        """Close the sockets."""
        self._client.close()

    def _traced(self, method: str) -> contextlib.AbstractContextManager[Span]:
        """The call as a part of whatever request this thread works on."""
        where = urlsplit(self.url)
        attributes = {"http.request.method": method, "server.address": where.hostname or ""}
        return ended(current_span().begin(method, kind="client", attributes=attributes))

    def _url(self, path: str) -> str:
        # A base below a path (/registry) is kept, and "/…" from a Location header goes as it is.
        return f"{self.url}/{path.lstrip('/')}"

    def _unreachable(self, failure: Exception) -> RegistryUnreachable:
        reason = str(failure) or type(failure).__name__
        return RegistryUnreachable(
            f"the registry {self.url} does not answer ({reason}): does `registry serve` run there?"
        )


def said(response: httpx.Response) -> Any:
    """What a registry's answer says in JSON. RegistryUnreachable if something else answered, such
    as a proxy with a page of its own."""
    try:
        return response.json()
    except ValueError:
        request = response.request
        raise _unreadable(response, f"{request.method} {request.url.path}") from None


def _note_status(span: Span, response: httpx.Response) -> None:
    span.add({"http.response.status_code": response.status_code})


def _checked(response: httpx.Response) -> httpx.Response:
    """The response, unless it is a refusal."""
    if response.status_code < 400:
        return response
    try:
        values = response.json()["error"]
        message, code = str(values["message"]), str(values["code"])
    except (ValueError, KeyError, TypeError):
        what = f"{response.request.method} {response.request.url.path}"
        raise _unreadable(response, what) from None
    if code == BlobsMissing.code:
        raise BlobsMissing([str(digest) for digest in values.get("digests", ["?"])])
    kind, param = _by_code().get(code), values.get("param")
    if kind is None:
        error = RegistryError(message, param=param)
        error.code, error.status = code, response.status_code
        raise error
    raise kind(message + _advice(kind, param), param=param)


def _advice(kind: type[RegistryError], param: str | None) -> str:
    """What to change here, where the server's sentence can only speak of HTTP."""
    if kind is errors.KeyNeeded:
        return f" Here it is taken from {KEY_VARIABLE}."
    if kind is errors.NotFound and param is None:  # a path, and not something that is kept
        return " Of `hatstand serve`, the registry's URL ends in /registry."
    return ""


def _unreadable(response: httpx.Response, what: str) -> RegistryError:
    if response.status_code == 404 and response.request.method == "HEAD":
        return errors.NotFound("not there")
    return RegistryUnreachable(f"{what} was answered {response.status_code}, not by a registry")


def _by_code() -> dict[str, type[RegistryError]]:
    """Our errors by the code that travels."""
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    ours = [each for each in kinds if issubclass(each, RegistryError)]
    return {each.code: each for each in ours if "code" in vars(each)}


def _within(silence: float | None) -> httpx.Timeout:
    return httpx.Timeout(silence or _SILENCE, connect=_CONNECT)
