from __future__ import annotations

import httpx
import pytest

from registry import Registry
from tests.registry.api.conftest import error

pytestmark = pytest.mark.usefixtures("three")
PROD = "/adapters/sql/aliases/prod"


def test_moves_are_compare_and_set(http: httpx.Client, three: list[str]) -> None:
    assert error(http.put(PROD, json={"target": "1"}), 428)["code"] == "precondition_required"
    new = {"if-none-match": "*"}
    made = http.put(PROD, json={"target": "1", "why": "first"}, headers=new)
    assert made.headers["etag"] == f'"{three[0]}"'
    assert error(http.put(PROD, json={"target": "2"}, headers=new), 412)["code"] == "alias_conflict"
    seen = {"if-match": http.get(PROD).headers["etag"]}
    assert http.put(PROD, json={"target": "2"}, headers=seen).json()["version"] == 2
    error(http.put(PROD, json={"target": "3"}, headers=seen), 412)
    wherever = {"if-match": "*"}
    assert http.put(PROD, json={"target": "sql@3"}, headers=wherever).json()["version"] == 3
    error(http.put(PROD, json={"target": "9"}, headers=wherever), 404)
    error(http.put(PROD, json={}, headers=wherever), 400)


def test_rollback_is_a_new_event_in_the_history(http: httpx.Client) -> None:
    for number in ("1", "2"):
        http.put(PROD, json={"target": number}, headers={"if-match": "*", "x-hatstand-by": "ann"})
    back = http.post(f"{PROD}/rollback", json={"why": "worse"}, headers={"x-hatstand-by": "bob"})
    assert back.json()["version"] == 1
    events = http.get(f"{PROD}/history").json()["events"]
    assert [(each["kind"], each["to_number"], each["by"]) for each in events] == [
        ("set", 1, "ann"),
        ("set", 2, "ann"),
        ("rollback", 1, "bob"),
    ]
    error(http.post(f"{PROD}/rollback"), 412)
    error(http.get("/adapters/sql/aliases/canary/history"), 404)


def test_protection_is_asked_for_and_lifted(http: httpx.Client, registry: Registry) -> None:
    assert http.put(f"{PROD}/protection").json()["is_protected"] is True
    assert http.get("/adapters/sql").json()["protected"] == ["prod"]
    assert http.delete(f"{PROD}/protection").json()["is_protected"] is False
    kinds = [event.kind for event in registry.events()]
    assert kinds[-2:] == ["alias.protected", "alias.unprotected"]
