from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry import BaseRecord, Registry
from registry.bundle import LAYERS
from registry.canonical import canonical_json
from registry.documents import read_version
from registry.manifest import Descriptor
from registry.template_lane import Lost
from registry.template_process import TemplateProcess
from tests.registry.api.conftest import error, upload
from tests.registry.making import make_adapter

EVERY_BACKEND = True


@pytest.fixture
def manifest(http: httpx.Client, base: BaseRecord, tmp_path: Path) -> dict[str, Any]:
    """A manifest whose blobs were uploaded, ready to commit."""
    elsewhere = Registry.open(tmp_path / "elsewhere")
    folder = make_adapter(tmp_path / "new", seed=7, lock=base)
    version = elsewhere.push(folder, "made-here")
    for path in elsewhere.files(version).values():
        upload(http, path.read_bytes())
    return version.manifest.to_dict()


def test_a_commit_validates_then_makes_a_version(
    http: httpx.Client, registry: Registry, manifest: dict[str, Any]
) -> None:
    body = {"manifest": manifest, "alias": "prod", "why": "first", "tags": ["task=sql"]}
    headers = {"x-hatstand-by": "ann"}
    made = http.post("/adapters/sql/versions", json=body, headers=headers)
    assert made.status_code == 201
    version = read_version(made.json())
    assert version == registry.resolve("sql@prod")
    assert made.json()["report"]["max_rank"] == 4
    assert version.created_by == "ann"
    again = http.post("/adapters/sql/versions", json=body)
    assert (again.status_code, again.json()["digest"]) == (200, version.digest)
    assert [check.is_sound for check in registry.verify()] == [True]
    assert len(registry.alias_history("sql", "prod")) == 1


def test_what_a_folder_could_not_push_cannot_be_committed(
    http: httpx.Client, registry: Registry, manifest: dict[str, Any]
) -> None:
    def commit(change: dict[str, Any], **more: Any) -> httpx.Response:
        return http.post("/adapters/sql/versions", json={"manifest": {**manifest, **change}} | more)

    layers = manifest["layers"]
    missing = {**layers[0], "digest": "sha256:" + "0" * 64}
    refused = error(commit({"layers": [missing, *layers[1:]]}), 409)
    assert (refused["code"], refused["digests"]) == ("blobs_missing", ["sha256:" + "0" * 64])
    assert error(commit({"layers": layers[:1]}), 422)["param"] == "adapter_config.json"
    assert error(commit({"layers": layers[::-1]}), 422)["param"] == "layers"
    assert error(commit({"annotations": {}}), 400)["param"] == "manifest"
    short = {**layers[0], "size": 3}
    error(commit({"layers": [short, *layers[1:]]}), 422)
    junk = upload(http, b"not safetensors at all")
    weights = next(each for each in layers if each["mediaType"].endswith("safetensors"))
    broken = {**weights, "digest": junk, "size": 22}
    swapped = [broken if each is weights else each for each in layers]
    refused = error(commit({"layers": swapped}), 422)
    assert refused["param"] == "adapter_model.safetensors"
    hot = b'{"sampling": {"temperature": 3}}'
    hat = Descriptor(LAYERS["hat.json"], upload(http, hot), len(hot), "hat.json").to_dict()
    assert error(commit({"layers": [*layers, hat]}), 400)["param"] == "sampling.temperature"
    loose = canonical_json({"format": 1})[:-1] + b" }"
    config = {**manifest["config"], "digest": upload(http, loose), "size": len(loose)}
    assert error(commit({"config": config}), 400)["code"] == "invalid_lock"
    error(commit({}, tags=["no spaces please"]), 400)
    error(http.post("/adapters/SQL/versions", json={"manifest": manifest}), 400)
    error(http.post("/adapters/sql/versions", content=b"{"), 400)
    assert registry.adapters() == []


def test_a_commit_whose_template_finds_no_place_is_told_when_to_come_again(
    http: httpx.Client,
    registry: Registry,
    base: BaseRecord,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = make_adapter(tmp_path / "slow", lock=base)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    elsewhere = Registry.open(tmp_path / "elsewhere")
    version = elsewhere.push(folder, "slow")
    for path in elsewhere.files(version).values():
        upload(http, path.read_bytes())
    body = {"manifest": version.manifest.to_dict()}
    process = TemplateProcess(seconds=4.5, patient=0, patience=0)
    monkeypatch.setattr(process.quick, "ask", lambda _question: Lost.LATE)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr("registry.hats.template_process", lambda: process)
        refused = http.post("/adapters/slow/versions", json=body)
    assert error(refused, 503)["code"] == "templates_busy"
    assert refused.headers["retry-after"] == "5"
    assert registry.adapters() == []
    assert http.post("/adapters/slow/versions", json=body).status_code == 201


@pytest.mark.usefixtures("three")
def test_what_a_database_cannot_hold_is_the_callers_fault(http: httpx.Client) -> None:
    """PostgreSQL refuses NUL in texts; that is no reason to call the catalog unavailable."""
    basic = base64.b64encode(b"anyone:hsk_\0_x").decode()
    answers = [
        http.get("/adapters?after=%00"),
        http.get("/adapters?base=%00"),
        http.get("/adapters?tag=%00"),
        http.get("/adapters/sql/versions/1/referrers?artifact_type=%00"),
        http.delete("/adapters/sql/versions/3", params={"why": "\0"}),
        http.get("/adapters", headers={"authorization": f"Basic {basic}"}),
    ]
    assert {answer.status_code for answer in answers} <= {200, 400, 401}
    assert answers[-1].status_code == 401
    assert http.get("/adapters").status_code == 200


def test_adapters_are_listed_page_by_page(
    http: httpx.Client, registry: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    folder = make_adapter(tmp_path / "a", lock=base)
    for name in ("c", "a", "b"):
        registry.push(folder, name)
    first = http.get("/adapters", params={"limit": 2}).json()
    assert [each["name"] for each in first["adapters"]] == ["a", "b"]
    second = http.get("/adapters", params={"limit": 2, "after": first["next"]}).json()
    assert [each["name"] for each in second["adapters"]] == ["c"]
    assert second["next"] is None
    error(http.get("/adapters", params={"limit": "many"}), 400)


def test_search_by_base_tag_and_metric(
    http: httpx.Client, registry: Registry, base: BaseRecord, tmp_path: Path
) -> None:
    registry.push(make_adapter(tmp_path / "a", lock=base), "sql", tags=("task=sql", "gold"))
    other = base.model_copy(update={"fingerprint": "sha256:" + "0" * 64, "name": "other-base"})
    registry.push(make_adapter(tmp_path / "b", lock=other), "orders", tags=("task=orders",))
    statement = {
        "artifact_type": "application/vnd.hatstand.evaluation.v1+json",
        "content": {"metrics": {"exact_match": 0.93}, "data": "held-out"},
    }
    made = http.post("/adapters/sql/versions/1/referrers", json=statement)
    assert made.status_code == 201
    assert http.post("/adapters/sql/versions/1/referrers", json=statement).json() == made.json()

    def found(**query: Any) -> list[str]:
        answer = http.get("/adapters", params=query).json()
        return [adapter["name"] for adapter in answer["adapters"]]

    assert found(base="tiny-base") == ["sql"]
    assert found(base="sha256:" + "0" * 12) == ["orders"]
    assert found(tag="gold") == ["sql"]
    assert found(tag=["gold", "task=orders"]) == []
    assert found(metric="exact_match>=0.9") == ["sql"]
    assert found(metric=["exact_match>0.93"]) == []
    assert found(text="rder") == ["orders"]
    error(http.get("/adapters", params={"metric": "exact_match"}), 400)

    referrers = http.get("/adapters/sql/versions/1/referrers").json()["referrers"]
    assert [each["digest"] for each in referrers] == [made.json()["digest"]]
    content = referrers[0]["manifest"]["layers"][0]["digest"]
    assert http.get(f"/blobs/{content}").json()["data"] == "held-out"
    error(http.post("/adapters/sql/versions/1/referrers", json={"artifact_type": "x"}), 400)
    bad = {**statement, "content": {"metrics": {"a": "b"}}}
    error(http.post("/adapters/sql/versions/1/referrers", json=bad), 400)


def test_a_withdrawn_version_is_not_found_until_it_is_pushed_again(
    http: httpx.Client, registry: Registry, three: list[str], tmp_path: Path
) -> None:
    registry.set_alias("sql", "prod", "sql@1")
    assert error(http.delete("/adapters/sql/versions/1"), 409)["code"] == "version_in_use"
    assert http.delete("/adapters/sql/versions/3", params={"why": "bad"}).status_code == 200
    error(http.get("/adapters/sql/versions/3"), 404)
    snapshot = http.get("/adapters/sql").json()
    assert snapshot["newest"]["version"] == 2
    assert snapshot["aliases"]["prod"]["version"] == 1
    back = registry.push(tmp_path / "v2", "sql")
    assert (back.number, back.digest, back.is_new) == (3, three[2], False)
    kinds = [event.kind for event in registry.events()][-2:]
    assert kinds == ["version.withdrawn", "version.restored"]


def test_diff(http: httpx.Client, three: list[str]) -> None:
    found = http.get("/adapters/sql/versions/2/diff", params={"against": "1"}).json()
    assert (found["before"]["digest"], found["after"]["digest"]) == (three[0], three[1])
    assert [layer["layer"] for layer in found["weights"]["layers"]] == [0, 1]
    assert abs(found["weights"]["total"]["cosine"]) < 0.5
    same = http.get(f"/adapters/sql/versions/2/diff?against={three[1]}").json()
    assert same["weights"]["total"]["distance"] == 0
    error(http.get("/adapters/sql/versions/2/diff?against=9"), 404)
    error(http.get("/adapters/sql/versions/2/diff"), 400)
