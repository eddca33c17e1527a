from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from registry import Registry
from registry.api.app import create_app
from registry.api.settings import RegistryApiSettings
from registry.keys import Keys
from tests.registry.api.conftest import error, serving

pytestmark = pytest.mark.usefixtures("three")
STREAM = {"accept": "text/event-stream"}


def follow(http: httpx.Client, **headers: str) -> Iterator[dict[str, Any]]:
    """The data of each event of the stream."""
    with http.stream("GET", "/events", headers={**STREAM, **headers}) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def test_a_page_of_events_and_a_cursor(http: httpx.Client) -> None:
    answer = http.get("/events", params={"after": 0}).json()
    assert [event["data"]["version"] for event in answer["events"]] == [1, 2, 3]
    assert answer["cursor"] == answer["events"][-1]["id"]
    now = http.get("/events").json()
    assert now == {"events": [], "cursor": answer["cursor"]}
    error(http.get("/events", params={"after": "x"}), 400)
    error(http.get("/events", headers={"last-event-id": "-1"}), 400)


def test_a_follower_hears_what_happens(http: httpx.Client, registry: Registry) -> None:
    events = follow(http)
    cursor = next(events)["cursor"]
    registry.set_alias("sql", "prod", "sql@1", by="ann", why="why not")
    heard = next(events)
    assert (heard["kind"], heard["adapter"], heard["by"]) == ("alias.set", "sql", "ann")
    assert heard["data"]["version"] == 1
    assert heard["id"] > cursor


def test_a_cursor_means_the_same_after_a_restart(http: httpx.Client, registry: Registry) -> None:
    first = http.get("/events", params={"after": 0, "limit": 1}).json()
    settings = RegistryApiSettings(is_open=True)
    with serving(create_app(registry, settings)) as url, httpx.Client(base_url=url) as other:
        events = follow(other, **{"last-event-id": str(first["cursor"])})
        assert next(events) == {"cursor": first["cursor"]}
        assert [next(events)["data"]["version"] for _ in range(2)] == [2, 3]


def test_followers_are_counted_and_scoped(registry: Registry) -> None:
    settings = RegistryApiSettings(is_open=True, max_followers=0)
    with serving(create_app(registry, settings)) as url, httpx.Client(base_url=url) as http:
        error(http.get("/events", headers=STREAM), 503)
        _, token = Keys(registry.catalog).create("blind", ["read"], ["orders"])
        headers = {"authorization": f"Bearer {token}"}
        answer = http.get("/events", params={"after": 0}, headers=headers).json()
        assert answer["events"] == []
        assert answer["cursor"] == registry.newest_event()
