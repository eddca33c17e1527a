"""A stand-in for the Hugging Face Hub on this machine: what huggingface_hub asks of it, no more.

Repositories are dictionaries of files by commit. Files of `LARGE` bytes and more have LFS metadata.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = 1024  # bytes
_REPO = r"(?P<repo>[^/]+/[^/]+)"


@dataclass
class Repository:
    """Commits by id, oldest first; branches and tags by name."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], ref: str = "main") -> str:
        """Add a commit on top of `ref`."""
        before = self.commits.get(self.refs.get(ref, ""), {})
        name = hashlib.sha1(f"{len(self.commits)}{sorted(files)}".encode()).hexdigest()
        self.commits[name] = {**before, **files}
        self.refs[ref] = name
        return name

    def find(self, revision: str) -> str | None:
        """The commit that a revision means."""
        name = self.refs.get(revision, revision)
        return name if name in self.commits else None


@dataclass
class StandInHub:
    """The repositories, and every request that came."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    is_down: bool = False

    def add(self, name: str, files: dict[str, bytes]) -> str:
        """A repository with one commit more; returns the commit."""
        return self.repositories.setdefault(name, Repository()).commit(files)


@contextlib.contextmanager
def stand_in_hub() -> Iterator[StandInHub]:
    """A hub on a free port of this machine, for as long as the context lasts."""
    hub = StandInHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: StandInHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._dispatch()

    def do_HEAD(self) -> None:
        self._dispatch()

    def do_POST(self) -> None:
        self._dispatch()

    def do_PUT(self) -> None:
        self._dispatch()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _dispatch(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.hub.is_down:
            self._answer(503, {"error": "down"})
            return
        for pattern, method in _ROUTES:
            if found := re.fullmatch(pattern, path):
                getattr(self, method)(body, **found.groupdict())
                return
        self._answer(404, {"error": f"no such page: {path}"})

    def _info(self, _body: bytes, repo: str, revision: str | None = None) -> None:
        if (commit := self._commit_of(repo, revision)) is None:
            return
        files = self.hub.repositories[repo].commits[commit]
        siblings = [
            {"rfilename": name, "size": len(content), "blobId": _sha1(content), **_lfs(content)}
            for name, content in files.items()
        ]
        self._answer(200, {"id": repo, "modelId": repo, "sha": commit, "siblings": siblings})

    def _resolve(self, _body: bytes, repo: str, revision: str, name: str) -> None:
        if (commit := self._commit_of(repo, revision)) is None:
            return
        content = self.hub.repositories[repo].commits[commit].get(name)
        if content is None:
            self._answer(404, {}, {"x-error-code": "EntryNotFound"})
            return
        etag = hashlib.sha256(content).hexdigest() if len(content) >= LARGE else _sha1(content)
        headers = {"x-repo-commit": commit, "etag": f'"{etag}"', "accept-ranges": "bytes"}
        self._answer(200, content, headers)

    def _create(self, body: bytes) -> None:
        wanted = json.loads(body)
        repo = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        if repo in self.hub.repositories:
            self._answer(409, {"error": "there already", "url": f"{self.hub.url}/{repo}"})
            return
        self.hub.add(repo, {})
        self._answer(200, {"url": f"{self.hub.url}/{repo}", "name": repo})

    def _validate(self, _body: bytes) -> None:
        """A model card's header is checked before it is uploaded."""
        self._answer(200, {"errors": [], "warnings": []})

    def _preupload(self, body: bytes, repo: str, revision: str) -> None:
        assert repo in self.hub.repositories, revision
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["size"] >= LARGE else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._answer(200, {"files": files})

    def _lfs_batch(self, body: bytes, repo: str) -> None:
        objects = [
            {
                **wanted,
                "actions": {"upload": {"href": f"{self.hub.url}/lfs/{repo}/{wanted['oid']}"}},
            }
            for wanted in json.loads(body)["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _lfs_put(self, body: bytes, repo: str, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid, repo
        self.hub.uploads[oid] = body
        self._answer(200, {})

    def _commit(self, body: bytes, repo: str, revision: str) -> None:
        files: dict[str, bytes] = {}
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
        commit = self.hub.repositories[repo].commit(files, revision)
        url = f"{self.hub.url}/{repo}/commit/{commit}"
        self._answer(200, {"success": True, "commitOid": commit, "commitUrl": url})

    def _commit_of(self, repo: str, revision: str | None) -> str | None:
        """The commit, or None once the answer that there is none has gone out."""
        repository = self.hub.repositories.get(repo)
        if repository is None:
            self._answer(404, {"error": "no repository"}, {"x-error-code": "RepoNotFound"})
            return None
        commit = repository.find(revision or "main")
        if commit is None:
            self._answer(404, {"error": "no revision"}, {"x-error-code": "RevisionNotFound"})
        return commit

    def _answer(
        self, status: int, body: bytes | dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


_ROUTES = [
    (r"/api/repos/create", "_create"),
    (r"/api/validate-yaml", "_validate"),
    (rf"/api/models/{_REPO}/preupload/(?P<revision>.+)", "_preupload"),
    (rf"/api/models/{_REPO}/commit/(?P<revision>.+)", "_commit"),
    (rf"/api/models/{_REPO}/revision/(?P<revision>.+)", "_info"),
    (rf"/api/models/{_REPO}", "_info"),
    (rf"/{_REPO}\.git/info/lfs/objects/batch", "_lfs_batch"),
    (rf"/lfs/{_REPO}/(?P<oid>[0-9a-f]+)", "_lfs_put"),
    (rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", "_resolve"),
]


def _lfs(content: bytes) -> dict[str, Any]:
    if len(content) < LARGE:
        return {}
    digest = hashlib.sha256(content).hexdigest()
    return {"lfs": {"sha256": digest, "size": len(content), "pointerSize": 130}}


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
