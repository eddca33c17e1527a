from __future__ import annotations

from typing import Any

import httpx
import pytest

from registry import Registry
from registry.canary.outcomes import Outcomes
from registry.canary.reports import Report
from registry.canary.rules import Rules
from registry.errors import CanaryConflict, CanaryNotFound
from registry.keys import Keys
from registry.remote.canaries import RemoteCanaries
from registry.remote.connection import Connection
from tests.registry.api.conftest import error
from tests.support.waiting import eventually

CANARY = "/adapters/sql/aliases/prod/canary"
RULES = {"steps": [10, 100], "step_seconds": 0, "bake_seconds": 0, "min_requests": 5}


@pytest.fixture(autouse=True)
def prod(registry: Registry, three: list[str]) -> None:
    assert len(three) == 3
    registry.set_alias("sql", "prod", "sql@1")


def begin(http: httpx.Client, three: list[str], **rules: Any) -> httpx.Response:
    body = {"target": "2", "rules": {**RULES, **rules}, "why": "better?"}
    return http.put(
        CANARY, json=body, headers={"if-match": f'"{three[0]}"', "x-hatstand-by": "ann"}
    )


def report(values: dict[str, Any], requests: int, errors: int = 0) -> dict[str, Any]:
    outcomes = Outcomes(requests, errors)
    return Report(values["id"], values["step"], "server-1", target=outcomes).to_dict()


def once(http: httpx.Client, state: str) -> dict[str, Any]:
    """The canary, once its state is that."""
    eventually(lambda: http.get(CANARY).json()["state"] == state, f"it is {state}")
    return dict(http.get(CANARY).json())


def test_it_is_begun_by_compare_and_set(http: httpx.Client, three: list[str]) -> None:
    assert error(http.put(CANARY, json={"target": "2"}), 428)["code"] == "precondition_required"
    wrong = http.put(CANARY, json={"target": "2"}, headers={"if-match": f'"{three[1]}"'})
    assert error(wrong, 412)["code"] == "alias_conflict"
    assert error(begin(http, three, steps=[5, 5]), 400)["param"] == "steps"
    assert error(begin(http, three, stepps=[5]), 400)["message"].count("did you mean 'steps'") == 1
    begun = begin(http, three)
    assert begun.status_code == 201
    assert begun.json()["weight"] == 10
    assert error(begin(http, three), 412)["code"] == "canary_conflict"
    (split,) = http.get("/adapters/sql").json()["splits"]
    assert (split["weight"], split["target"]["version"]) == (10, 2)
    assert [each["id"] for each in http.get("/canaries").json()["canaries"]] == [begun.json()["id"]]


def test_reports_let_the_rules_decide(http: httpx.Client, three: list[str]) -> None:
    begun = begin(http, three).json()
    for _ in range(2):
        now = http.get(CANARY).json()
        assert http.put(f"{CANARY}/reports", json=report(now, 5)).status_code == 204
        eventually(lambda before=now["etag"]: http.get(CANARY).json()["etag"] != before)
    ended = once(http, "promoted")
    assert ended["id"] == begun["id"]
    assert http.get("/adapters/sql/aliases/prod").json()["version"] == 2
    assert http.put(f"{CANARY}/reports", json=report(ended, 5)).status_code == 204  # too late
    events = http.get("/adapters/sql/aliases/prod/history").json()["events"]
    assert [(each["kind"], each["weight"], each["by"]) for each in events[1:]] == [
        ("canary.start", 10, "ann"),
        ("canary.advance", 100, "canary rules"),
        ("canary.promote", 100, "canary rules"),
    ]


def test_a_bad_one_is_ended_by_the_server_itself(http: httpx.Client, three: list[str]) -> None:
    values = begin(http, three).json()
    http.put(f"{CANARY}/reports", json={**report(values, 0), "refusal": "it breaks its receipt"})
    ended = once(http, "aborted")
    assert ended["verdict"] == "a server cannot serve it: it breaks its receipt"
    assert http.get("/adapters/sql").json()["splits"] == []


def test_by_hand(http: httpx.Client, three: list[str]) -> None:
    values = begin(http, three, is_automatic=False).json()
    error(http.post(f"{CANARY}/advance"), 428)
    match = {"if-match": f'"{values["etag"]}"'}
    assert http.post(f"{CANARY}/advance", headers=match).json()["weight"] == 100
    assert error(http.post(f"{CANARY}/advance", headers=match), 412)["code"] == "canary_conflict"
    assert http.delete(CANARY, params={"why": "enough"}).json()["verdict"] == "enough"
    assert error(http.delete(CANARY), 404)["code"] == "canary_not_found"
    error(http.get("/adapters/sql/aliases/next/canary"), 404)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"canary": 1, "step": 0, "holder": ""},
        {"canary": 1, "step": -1, "holder": "x"},
        {"canary": 1, "step": 0, "holder": "x", "stable": {"requests": 1}},
    ],
)
def test_reports_that_are_none(http: httpx.Client, body: dict[str, Any]) -> None:
    error(http.put(f"{CANARY}/reports", json=body), 400)


def test_keys_say_who_may(http: httpx.Client, registry: Registry, three: list[str]) -> None:
    keys = Keys(registry.catalog)
    tokens = {verb: keys.create(verb, [verb])[1] for verb in ("read", "report", "alias", "protect")}

    def bearer(verb: str) -> dict[str, str]:
        return {"authorization": f"Bearer {tokens[verb]}", "if-match": "*"}

    body = {"target": "2", "rules": RULES}
    error(http.put(CANARY, json=body, headers=bearer("read")), 403)
    values = http.put(CANARY, json=body, headers=bearer("alias")).json()
    error(http.put(f"{CANARY}/reports", json=report(values, 1), headers=bearer("read")), 403)
    path = f"{CANARY}/reports"
    assert http.put(path, json=report(values, 1), headers=bearer("report")).status_code == 204
    error(http.get(CANARY, headers=bearer("report")), 403)
    assert http.get(CANARY, headers=bearer("read")).json()["evidence"]["target"]["requests"] == 1
    registry.protect_alias("sql", "prod")
    error(http.post(f"{CANARY}/advance", headers=bearer("alias")), 403)
    error(http.delete(CANARY, headers=bearer("alias")), 403)
    assert three


def test_the_same_methods_over_http(url: str, registry: Registry) -> None:
    connection = Connection(url)
    canaries = RemoteCanaries(connection)
    rules = Rules(steps=(10, 100), min_requests=5)
    begun = canaries.start("sql", "prod", "2", rules, expected=1, why="better?")
    assert begun == registry.canaries.standing("sql", "prod").canary
    assert canaries.running() == [begun]
    canaries.report("sql", "prod", Report(begun.id, 0, "s", target=Outcomes(3, 0)))
    standing = canaries.standing("sql", "prod")
    assert standing.evidence.target == Outcomes(3, 0)
    assert standing.judgement.why == "3 of 5 requests"
    with pytest.raises(CanaryConflict):
        canaries.advance("sql", "prod", expected="0.0.running")
    assert canaries.advance("sql", "prod", expected=begun.etag).weight == 100
    assert canaries.abort("sql", "prod", why="no").state == "aborted"
    with pytest.raises(CanaryNotFound):
        canaries.abort("sql", "prod")
    connection.close()
