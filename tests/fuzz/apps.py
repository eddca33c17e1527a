"""The two HTTP applications, in this process, asked one request at a time.

Whatever the request: its status is one that GET /openapi.json lists for that operation, an error
has the API's shape, a stream comes to its end, and nothing goes on behind it.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from registry import Registry
from registry.api.app import create_app as create_registry_app
from registry.api.openapi import openapi_document as registry_document
from registry.api.settings import RegistryApiSettings
from registry.keys import Keys
from registry.tuning import open_queue
from registry.tuning.files import FileLimits
from server.api.app import create_app
from server.api.openapi import openapi_document as server_document
from server.api.responses import ResponseStore
from tests.fuzz.asked import Asked, Said, ask
from tests.fuzz.memory import memory
from tests.registry.making import TINY_BASE, make_adapter
from tests.server.api.fakes import make_site


@dataclass(frozen=True)
class Operation:
    """A path with a method, and what it may answer."""

    label: str
    pattern: re.Pattern[str]
    statuses: frozenset[int]


# What seeds call things by, and how the newest of them was called when it was made.
_MADE = {
    b"file-0": re.compile(rb'"id":"(file-[^"]+)"'),
    b"job-0": re.compile(rb'"id":"(ftjob-[^"]+)"'),
    b"resp_0": re.compile(rb'"id":"(resp_[^"]+)"'),
    b"upload-0": re.compile(rb'"upload":"([^"]+)"'),
    b"424242": re.compile(rb'"id":(\d+),"name":"sql","alias"'),
    b"hook-0": re.compile(rb'"id":"([^"]+)","url"'),
    b"key-0": re.compile(rb'"id":"([0-9a-f]{16})"'),
    b"sha256:" + b"1" * 64: re.compile(rb'"digest":"(sha256:[^"]+)"'),
}
Built = tuple[ASGIApp, str]  # and a key for it
FRESH_AFTER = 2000  # requests: what they leave behind must not become what is tried
_FILES = Operation(
    "a file", re.compile(r"/|/console.*|/openapi\.json", re.DOTALL), frozenset({200, 304, 404, 405})
)
_NOTHING = Operation("nothing", re.compile(".*"), frozenset({307, 400, 404, 405}))
_WATCHER = 1  # task of sse-starlette, which looks after all streams of a loop
_ENDINGS = (b"data: [DONE]", b'"error"', b"event: response.completed")


class Site:
    """One application with a little in it, and what it answered so far."""

    def __init__(
        self,
        build: Callable[[Path], Built],
        document: Mapping[str, Any],
    ) -> None:
        self.statuses: Counter[tuple[str, int]] = Counter()
        self._build = build
        self._operations = Operations(document)
        self._loop = asyncio.new_event_loop()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._built: Built | None = None
        self._asked = 0
        self._made: dict[bytes, bytes] = {}

    def take(self, content: bytes) -> Said:
        """Ask what the bytes ask; AssertionError on an answer that should not be."""
        for placeholder, made in self._made.items():
            content = content.replace(placeholder, made)
        asked = Asked.parse(content)
        if not asked.is_http:
            return Said(status=400)  # what parses HTTP answers
        app, key = self._fresh()
        asked = replace(asked, headers=(("authorization", key), *asked.headers))
        said = self._loop.run_until_complete(ask(app, asked))
        if said.status == 401:  # it revoked the key that it came with
            self._built = None
        operation = self._operations.find(asked)
        self.statuses[operation.label, said.status] += 1
        assert said.status in operation.statuses, f"{said.status} of {asked}: {said.body[:500]!r}"
        if said.status >= 400 and asked.method != "HEAD":
            check_refusal(said)
        if said.is_stream and not asked.is_followed:
            assert any(ending in said.body for ending in _ENDINGS), said.body[-200:]
        for placeholder, pattern in _MADE.items():
            if found := pattern.search(said.body):
                self._made[placeholder] = found[1]
        assert len(left := asyncio.all_tasks(self._loop)) <= _WATCHER, left
        return said

    def _fresh(self) -> Built:
        if self._built is None or self._asked % FRESH_AFTER == 0:
            self._folder = tempfile.TemporaryDirectory(dir=memory(), ignore_cleanup_errors=True)
            self._built = self._build(Path(self._folder.name))
        self._asked += 1
        return self._built


class Operations:
    """What an OpenAPI document lists."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        # Those with the fewest names first: /blobs/uploads is no digest.
        paths = sorted(document["paths"], key=lambda path: path.count("{"))
        self._known = [
            (method.upper(), _operation(path, method, operation))
            for path in paths
            for method, operation in document["paths"][path].items()
        ]

    def find(self, asked: Asked) -> Operation:
        """The one that such a request reaches; HEAD reaches what GET does."""
        method = "GET" if asked.method == "HEAD" else asked.method
        for known, operation in self._known:
            if known in (method, asked.method) and operation.pattern.fullmatch(asked.path):
                return operation
        return _FILES if _FILES.pattern.fullmatch(asked.path) else _NOTHING


def _operation(path: str, method: str, document: Mapping[str, Any]) -> Operation:
    some = ".+" if path.endswith("{model_id}") else "[^/]+"
    pattern = re.compile(re.sub(r"{\w+}", some, path.replace(".", r"\.")), re.DOTALL)
    statuses = frozenset(map(int, document["responses"]))
    return Operation(f"{method.upper()} {path}", pattern, statuses)


def check_refusal(said: Said) -> None:
    """An error says in words and in a code what was wrong."""
    values = json.loads(said.body)
    if "status" in values:
        return  # a probe
    error = values["error"]
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["code"], str)
    assert error["code"] != "internal_error", error


@cache
def server_site() -> Site:
    """The inference API over an engine that computes nothing, with fine-tuning and responses."""
    return Site(build_server, server_document(version="0", tunes=True))


@cache
def registry_site() -> Site:
    """The registry's API over one with two versions of `sql`."""
    return Site(build_registry, registry_document())


def build_server(folder: Path) -> Built:
    site = make_site()
    queue = open_queue(folder / "tuning.sqlite", limits=FileLimits())
    responses = ResponseStore(folder / "responses.sqlite")
    app = create_app(site.engine, site.registry, site.base, queue=queue, responses=responses)  # type: ignore[arg-type]
    return app, ""


def build_registry(folder: Path) -> Built:
    registry = Registry.open(folder / "registry")
    for seed in range(2):
        adapter = make_adapter(folder / f"v{seed}", seed=seed, lock=TINY_BASE)
        registry.push(adapter, "sql", alias=None if seed else "prod")
    _, key = Keys(registry.catalog).create("fuzz", ["admin"])
    app = create_registry_app(registry, RegistryApiSettings(event_interval=0.0))
    return app, f"Bearer {key}"
