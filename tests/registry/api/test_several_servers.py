"""Servers that share a catalog and a bucket take each other's uploads, request by request."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from registry import Registry
from registry.api.app import create_app
from registry.api.settings import RegistryApiSettings
from registry.bucket import Bucket
from registry.canonical import digest_of
from registry.errors import TooLarge, UploadConflict
from registry.remote.connection import Connection
from registry.remote.registry import RemoteRegistry
from registry.shared_uploads import SharedUploads
from registry.staging import StagingArea
from tests.registry.api.conftest import error, serving

PIECE = 100_000


@pytest.fixture
def servers(tmp_path: Path, postgres_database: str, s3_prefix: str) -> Iterator[list[str]]:
    """The URLs of two servers, each with a folder of its own."""
    with contextlib.ExitStack() as stack:
        urls = []
        for number in range(2):
            folder = tmp_path / f"server-{number}"
            registry = Registry.open(folder, database=postgres_database, blobs=s3_prefix)
            stack.callback(registry.close)
            app = create_app(registry, RegistryApiSettings(is_open=True))
            urls.append(stack.enter_context(serving(app)))
        yield urls


class Balancer(httpx.BaseTransport):
    """Sends each request to the next server."""

    def __init__(self, urls: list[str]) -> None:
        self._turns = itertools.cycle(httpx.URL(url) for url in urls)
        self._transport = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        server = next(self._turns)
        request.url = request.url.copy_with(host=server.host, port=server.port)
        return self._transport.handle_request(request)

    def close(self) -> None:
        self._transport.close()


def test_a_push_may_alternate_between_them(
    servers: list[str], adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.remote.blobs.PIECE", 700)
    connection = Connection("http://registry.test", transport=Balancer(servers))
    with contextlib.closing(RemoteRegistry(connection, tmp_path / "client")) as client:
        version = client.push(adapter, "sql", alias="prod")
        for url in servers:
            with contextlib.closing(RemoteRegistry(Connection(url), tmp_path / url[-5:])) as one:
                assert one.resolve("sql@prod").digest == version.digest
                (checked,) = one.verify("sql@1")
                assert checked.is_sound


def test_pieces_go_to_any_server_and_offsets_agree(servers: list[str]) -> None:
    content = os.urandom(3 * PIECE)
    with httpx.Client(base_url=servers[0]) as one, httpx.Client(base_url=servers[1]) as two:
        location = one.post("/blobs/uploads").headers["location"]
        for number, client in enumerate((two, one, two)):
            start = number * PIECE
            headers = {"content-range": f"{start}-{start + PIECE - 1}"}
            piece = content[start : start + PIECE]
            assert client.patch(location, content=piece, headers=headers).status_code == 202
            assert one.get(location).json() == two.get(location).json()
        again = one.patch(location, content=b"x", headers={"content-range": "0-0"})
        assert "ends at byte 300000" in error(again, 416)["message"]
        digest = digest_of(content)
        assert one.put(location, params={"digest": digest}).status_code == 201
        assert two.get(f"/blobs/{digest}").content == content
        error(two.get(location), 404)


def test_of_two_writers_at_one_place_the_first_wins(s3_prefix: str, tmp_path: Path) -> None:
    bucket = Bucket.open(s3_prefix)
    ours, theirs = (
        SharedUploads(bucket, StagingArea(tmp_path / name), size_limit=100) for name in "ab"
    )
    upload = ours.begin()
    first, second = ours.append(upload, 0), theirs.append(upload, 0)
    first.write(b"first")
    second.write(b"second")
    second.close()
    with pytest.raises(UploadConflict, match="being written by another"):
        first.close()
    assert ours.offset(upload) == 6
    third = theirs.append(upload, 6)
    with contextlib.closing(third), pytest.raises(TooLarge, match="over the limit of 100"):
        third.write(b"x" * 95)
    ours.cancel(upload)
    assert list(bucket.list("uploads/")) == []
