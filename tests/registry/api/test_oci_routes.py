from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from registry import Registry
from registry.keys import Keys
from tests.registry.api.conftest import error
from tests.registry.backends import need

pytestmark = pytest.mark.usefixtures("three")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_oras_pulls_an_adapter(registry: Registry, url: str, tmp_path: Path) -> None:
    client = need("oras.client").OrasClient(insecure=True, tls_verify=False)
    registry.set_alias("sql", "prod", "sql@2")
    host = url.removeprefix("http://")
    client.pull(target=f"{host}/sql:prod", outdir=str(tmp_path / "out"))
    registry.pull("sql@2", tmp_path / "ours")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "ours" / name).read_bytes()
    assert {"prod", "1", "2", "3"} == set(client.get_tags(f"{host}/sql"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_oras_pulls_with_a_key_as_password(registry: Registry, url: str, tmp_path: Path) -> None:
    _, token = Keys(registry.catalog).create("oras", ["read"])
    host = url.removeprefix("http://")
    client = need("oras.client").OrasClient(
        hostname=host, insecure=True, tls_verify=False, auth_backend="basic"
    )
    client.auth.set_basic_auth("any", token)
    client.pull(target=f"{host}/sql:1", outdir=str(tmp_path / "out"))
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()


def test_manifests_by_tag_and_digest(http: httpx.Client, three: list[str]) -> None:
    assert http.get("/v2/").json() == {}
    by_tag = http.get("/v2/sql/manifests/1")
    assert by_tag.headers["docker-content-digest"] == three[0]
    assert by_tag.headers["content-type"] == "application/vnd.oci.image.manifest.v1+json"
    by_digest = http.get(f"/v2/sql/manifests/{three[0]}")
    assert by_digest.content == by_tag.content
    head = http.head("/v2/sql/manifests/latest")
    assert head.headers["docker-content-digest"] == three[2]
    assert head.content == b""
    error(http.get("/v2/sql/manifests/9"), 404)
    error(http.get("/v2/sql/manifests/sha256:" + "0" * 64), 404)


def test_referrers_are_an_index(http: httpx.Client, three: list[str]) -> None:
    statement = {"artifact_type": "application/vnd.example.approval+json", "content": {"ok": True}}
    digest = http.post("/adapters/sql/versions/1/referrers", json=statement).json()["digest"]
    index = http.get(f"/v2/sql/referrers/{three[0]}").json()
    assert [each["digest"] for each in index["manifests"]] == [digest]
    manifest = http.get(f"/v2/sql/manifests/{digest}").json()
    assert manifest["subject"]["digest"] == three[0]
    query = {"artifactType": "other"}
    assert http.get(f"/v2/sql/referrers/{three[0]}", params=query).json()["manifests"] == []
