from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from registry import Registry
from registry.api.app import create_app
from registry.api.settings import RegistryApiSettings
from registry.canonical import digest_of
from registry.errors import UploadConflict, UploadNotFound
from registry.local_blobs import LocalBlobs
from registry.uploads import LocalUploads
from tests.registry.api.conftest import error, serving, upload
from tests.registry.backends import Backend
from tests.support.waiting import PATIENCE

EVERY_BACKEND = True


def test_bytes_go_in_and_come_out_whole_and_in_part(http: httpx.Client) -> None:
    content = os.urandom(3 << 20)
    digest = upload(http, content)
    head = http.head(f"/blobs/{digest}")
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(content)))
    assert http.get(f"/blobs/{digest}").content == content
    for asked, expected in (
        ("bytes=0-0", content[:1]),
        ("bytes=5-104", content[5:105]),
        (f"bytes={len(content) - 7}-", content[-7:]),
        ("bytes=-9", content[-9:]),
        ("bytes=10-99999999", content[10:]),
    ):
        part = http.get(f"/blobs/{digest}", headers={"range": asked})
        assert part.status_code == 206
        assert part.content == expected
    first, last = 5, 104
    part = http.get(f"/blobs/{digest}", headers={"range": f"bytes={first}-{last}"})
    assert part.headers["content-range"] == f"bytes {first}-{last}/{len(content)}"
    error(http.get(f"/blobs/{digest}", headers={"range": "bytes=99999999-"}), 416)


def test_what_is_not_there_or_no_digest(http: httpx.Client) -> None:
    assert http.head("/blobs/sha256:" + "0" * 64).status_code == 404
    assert error(http.get("/blobs/sha256:" + "0" * 64), 404)["code"] == "blob_not_found"
    assert error(http.get("/blobs/sha256:12"), 400)["param"] == "digest"
    assert error(http.get("/nowhere"), 404)["code"] == "not_found"
    assert http.post("/blobs/sha256:" + "0" * 64).status_code == 405


def test_an_upload_goes_on_where_it_was_cut(
    http: httpx.Client, registry: Registry, backend: Backend
) -> None:
    content = os.urandom(300_000)
    begun = http.post("/blobs/uploads")
    location = begun.headers["location"]
    assert begun.json()["offset"] == 0
    http.patch(location, content=content[:100_000], headers={"content-range": "0-99999"})
    assert http.get(location).json()["offset"] == 100_000
    twice = http.patch(location, content=content[:10], headers={"content-range": "0-9"})
    assert "ends at byte 100000" in error(twice, 416)["message"]
    # The server forgets nothing when it is restarted.
    settings, restarted = RegistryApiSettings(is_open=True), backend.open()
    with serving(create_app(restarted, settings)) as url, httpx.Client(base_url=url) as other:
        headers = {"content-range": "100000-299999"}
        assert other.patch(location, content=content[100_000:], headers=headers).status_code == 202
        digest = digest_of(content)
        finished = other.put(location, params={"digest": digest})
        assert finished.json() == {"digest": digest, "size": 300_000}
        assert other.get(f"/blobs/{digest}").content == content
        assert other.get(location).status_code == 404
    assert registry.blobs.find(digest) is not None
    restarted.close()


def test_other_bytes_than_announced_are_refused(http: httpx.Client) -> None:
    location = http.post("/blobs/uploads").headers["location"]
    error(http.patch(location, content=b"abc"), 400)
    http.patch(location, content=b"abc", headers={"content-range": "bytes 0-2/3"})
    wrong = http.put(location, params={"digest": digest_of(b"abd")})
    assert error(wrong, 422)["code"] == "file_refused"
    error(http.put(location, params={"digest": digest_of(b"abc")}), 404)
    error(http.get("/blobs/uploads/../../etc/passwd"), 404)
    location = http.post("/blobs/uploads").headers["location"]
    assert http.delete(location).status_code == 204
    error(http.get(location), 404)


def test_no_upload_becomes_a_blob_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who went on writing would write into the blob, which may be somebody else's too."""
    monkeypatch.setattr("registry.uploads.LINGERING", 0.0)
    blobs = LocalBlobs(tmp_path / "blobs")
    uploads = LocalUploads(tmp_path / "uploads", size_limit=100)
    upload, digest = uploads.begin(), digest_of(b"abc")
    appending = uploads.append(upload, 0)
    appending.write(b"abc")
    with pytest.raises(UploadConflict, match="being written"):
        uploads.finish(upload, digest, blobs)
    assert blobs.find(digest) is None
    appending.close()
    assert uploads.finish(upload, digest, blobs) == 3
    with pytest.raises(UploadNotFound):
        uploads.append(upload, 3)
    blobs.check(digest)


def test_an_upload_that_ends_waits_for_a_request_that_was_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.uploads.LINGERING", PATIENCE)
    blobs = LocalBlobs(tmp_path / "blobs")
    uploads = LocalUploads(tmp_path / "uploads", size_limit=100)
    upload = uploads.begin()
    appending = uploads.append(upload, 0)
    appending.write(b"abc")
    with ThreadPoolExecutor(1) as pool:
        finishing = pool.submit(uploads.finish, upload, digest_of(b"abc"), blobs)
        appending.close()
        assert finishing.result() == 3


def test_sizes_are_bounded(registry: Registry) -> None:
    settings = RegistryApiSettings(is_open=True, size_limit=1000, max_body=500)
    with serving(create_app(registry, settings)) as url, httpx.Client(base_url=url) as http:
        location = http.post("/blobs/uploads").headers["location"]
        large = http.patch(location, content=b"x" * 1001, headers={"content-range": "0-1000"})
        assert error(large, 413)["code"] == "too_large"
        error(http.post("/adapters/sql/versions", content=b" " * 501), 413)


@pytest.mark.usefixtures("three")
def test_a_versions_files_by_name(http: httpx.Client) -> None:
    config = http.get("/adapters/sql/versions/2/files/adapter_config.json")
    assert config.json()["peft_type"] == "LORA"
    error(http.get("/adapters/sql/versions/2/files/nothing"), 404)
