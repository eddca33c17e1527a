from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from registry import Registry
from registry.api.app import create_app
from registry.api.openapi_operations import OPERATIONS
from registry.api.serving import Address, serve
from registry.api.settings import RegistryApiSettings
from registry.errors import InvalidRequest, KeyNeeded
from registry.keys import Keys
from tests.registry.api.conftest import error

pytestmark = pytest.mark.usefixtures("three")
PROD = "/adapters/sql/aliases/prod"


@pytest.fixture
def keys(registry: Registry) -> Keys:
    return Keys(registry.catalog)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_from_the_first_key_on_everybody_needs_one(http: httpx.Client, keys: Keys) -> None:
    assert http.get("/adapters").status_code == 200
    _, token = keys.create("reader", ["read"])
    refusal = http.get("/adapters")
    assert error(refusal, 401)["code"] == "key_needed"
    assert refusal.headers["www-authenticate"].startswith("Basic")
    assert http.get("/adapters", headers=bearer(token)).status_code == 200
    assert http.get("/healthz").status_code == 200
    for wrong in (token[:-1], token + "x", "hsk_0_0", "hsk"):
        error(http.get("/adapters", headers=bearer(wrong)), 401)
    basic = base64.b64encode(f"anyone:{token}".encode()).decode()
    assert http.get("/v2/", headers={"authorization": f"Basic {basic}"}).status_code == 200


def test_a_key_that_was_made_elsewhere_is_taken_once(http: httpx.Client, keys: Keys) -> None:
    token = f"hsk_{'ab' * 8}_{'s' * 32}"
    for _ in range(2):
        assert keys.adopt(token, "replicas", ["read", "report"]).verbs == ("read", "report")
    assert len(keys.list()) == 1
    assert http.get("/adapters", headers=bearer(token)).status_code == 200
    keys.revoke("ab" * 8)
    assert keys.adopt(token, "replicas", ["read"]).revoked_at is not None
    error(http.get("/adapters", headers=bearer(token)), 401)
    for wrong in ("secret", f"hsk_{'ab' * 8}_short", f"hsk_{'ab' * 8}_{'t' * 32}"):
        with pytest.raises(InvalidRequest):
            keys.adopt(wrong, "replicas", ["read"])


def test_keys_are_scoped_to_verbs_and_names(http: httpx.Client, keys: Keys) -> None:
    _, mover = keys.create("mover", ["read", "alias"], ["sql*", "demo"])
    headers = {**bearer(mover), "if-match": "*"}
    assert http.put(PROD, json={"target": "1"}, headers=headers).status_code == 200
    other = http.put("/adapters/orders/aliases/prod", json={"target": "1"}, headers=headers)
    assert "orders" in error(other, 403)["message"]
    error(http.post("/blobs/uploads", headers=headers), 403)
    error(http.get("/keys", headers=headers), 403)
    _, blind = keys.create("blind", ["read"], ["orders"])
    assert http.get("/adapters", headers=bearer(blind)).json()["adapters"] == []
    error(http.get("/adapters/sql", headers=bearer(blind)), 403)
    error(http.get("/v2/sql/manifests/1", headers=bearer(blind)), 403)


def test_a_protected_alias_needs_its_own_verb(
    http: httpx.Client, keys: Keys, registry: Registry
) -> None:
    registry.set_alias("sql", "prod", "sql@1")
    registry.protect_alias("sql", "prod")
    _, mover = keys.create("mover", ["read", "alias"])
    _, chief = keys.create("chief", ["alias", "protect"])
    ask = {"json": {"target": "2"}}
    assert error(http.put(PROD, **ask, headers={**bearer(mover), "if-match": "*"}), 403)["param"]
    assert registry.resolve("sql@prod").number == 1
    moved = http.put(PROD, **ask, headers={**bearer(chief), "if-match": "*"})
    assert moved.json()["version"] == 2
    error(http.post(f"{PROD}/rollback", headers=bearer(mover)), 403)


def test_keys_end(http: httpx.Client, keys: Keys) -> None:
    _, admin = keys.create("admin", ["admin"])
    made = http.post(
        "/keys", json={"name": "ci", "verbs": ["read"], "expires_in": 60}, headers=bearer(admin)
    ).json()
    assert http.get("/adapters", headers=bearer(made["token"])).status_code == 200
    http.delete(f"/keys/{made['id']}", headers=bearer(admin))
    assert "revoked" in error(http.get("/adapters", headers=bearer(made["token"])), 401)["message"]
    _, stale = keys.create("stale", ["read"], expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert "expired" in error(http.get("/adapters", headers=bearer(stale)), 401)["message"]
    listed = http.get("/keys", headers=bearer(admin))
    assert {key["name"]: key["is_valid"] for key in listed.json()["keys"]} == {
        "admin": True,
        "ci": False,
        "stale": False,
    }
    error(http.delete("/keys/nothing", headers=bearer(admin)), 404)


def test_a_secret_is_nowhere_in_the_registry(registry: Registry, keys: Keys) -> None:
    _, token = keys.create("reader", ["read"])
    secret = token.split("_", 2)[2].encode()  # in which there may be a "_" too
    registry.catalog.close()
    assert not any(
        secret in path.read_bytes() for path in registry.folder.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize(
    ("verbs", "patterns"), [([], ["*"]), (["fly"], ["*"]), (["read"], []), (["read"], ["a b"])]
)
def test_keys_that_make_no_sense(keys: Keys, verbs: list[str], patterns: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        keys.create("name", verbs, patterns)


def test_what_changes_something_is_in_the_audit_log(http: httpx.Client, keys: Keys) -> None:
    http.put(PROD, json={"target": "1"}, headers={"if-match": "*", "x-hatstand-by": "ann"})
    http.post("/blobs/uploads")
    http.get("/adapters")
    _, admin = keys.create("chief", ["admin"])
    _, reader = keys.create("reader", ["read"])
    error(http.put(PROD, json={"target": "2"}, headers=bearer(reader)), 403)
    error(http.put(PROD, json={"target": "2"}), 401)
    log = http.get("/audit", headers=bearer(admin)).json()["entries"]
    assert [(entry["by"], entry["action"], entry["status"]) for entry in log] == [
        ("reader", f"PUT {PROD}", 403),
        ("ann", f"PUT {PROD}", 200),
    ]
    assert log[0]["address"] == "127.0.0.1"
    older = http.get("/audit", params={"before": log[0]["id"]}, headers=bearer(admin)).json()
    assert [entry["by"] for entry in older["entries"]] == ["ann"]


def test_without_keys_nobody_gets_in_from_elsewhere(registry: Registry) -> None:
    with pytest.raises(KeyNeeded, match="registry keys create"):
        serve(registry, Address("0.0.0.0", 0))


def test_a_closed_registry_without_keys_stays_closed(registry: Registry) -> None:
    from tests.registry.api.conftest import serving

    with serving(create_app(registry, RegistryApiSettings())) as url:
        error(httpx.get(f"{url}/adapters"), 401)


def test_every_route_is_described(registry: Registry, http: httpx.Client) -> None:
    every: Iterable[Any] = create_app(registry).routes
    routes = {
        (route.path, method.lower()) for route in every for method in route.methods - {"HEAD"}
    }
    described = {each for each in OPERATIONS if each[1] != "head"}
    assert routes == described
    document = http.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert "If-Match" in document["paths"]["/adapters/{name}/aliases/{alias}"]["put"]["summary"]
