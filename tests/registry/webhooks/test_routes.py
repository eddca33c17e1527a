"""Webhooks over HTTP and from the command line, into a receiver on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

from registry import Registry
from registry.api.app import create_app
from registry.api.settings import RegistryApiSettings
from registry.keys import Keys
from registry.webhooks.addresses import NETWORKS_VARIABLE
from registry.webhooks.signature import is_signed
from tests.registry.api.conftest import error, serving, three
from tests.registry.test_cli import run, run_json
from tests.registry.webhooks.receiver import HERE, Receiver, receiving
from tests.support.waiting import PATIENCE, eventually

__all__ = ["three"]
pytestmark = pytest.mark.usefixtures("three")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


@pytest.fixture
def url(registry: Registry) -> Iterator[str]:
    settings = RegistryApiSettings(
        is_open=True, webhook_interval=0.02, webhook_pause=0.02, webhook_reach=HERE
    )
    with serving(create_app(registry, settings)) as where:
        yield where


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        yield client


def test_an_event_arrives_signed(
    http: httpx.Client, registry: Registry, receiver: Receiver
) -> None:
    made = http.post("/webhooks", json={"url": receiver.url, "kinds": ["alias.*"]})
    assert made.status_code == 201
    secret, hook_id = made.json()["secret"], made.json()["id"]
    assert "secret" not in http.get("/webhooks").json()["webhooks"][0]
    registry.set_alias("sql", "prod", "sql@2", by="ann", why="better")
    eventually(lambda: receiver.received)
    (received,) = receiver.received
    event = received.event
    assert (event["kind"], event["adapter"], event["by"]) == ("alias.set", "sql", "ann")
    assert event["data"]["version"] == 2
    assert received.headers["x-hatstand-delivery"] == str(event["id"])
    assert received.headers["x-hatstand-webhook"] == hook_id
    assert is_signed(secret, received.body, received.headers["x-hatstand-signature"], time.time())
    eventually(lambda: http.get(f"/webhooks/{hook_id}/deliveries").json()["deliveries"])
    (delivery,) = http.get(f"/webhooks/{hook_id}/deliveries").json()["deliveries"]
    assert (delivery["event"], delivery["status"]) == (event["id"], 200)


def test_a_receiver_that_comes_back_has_missed_nothing(
    http: httpx.Client, registry: Registry, receiver: Receiver
) -> None:
    hook_id = http.post("/webhooks", json={"url": receiver.url}).json()["id"]
    receiver.status = 500
    for number in (1, 2, 3):
        registry.set_alias("sql", "prod", f"sql@{number}")
    eventually(lambda: len(receiver.received) > 1)
    receiver.status = 200
    last = registry.newest_event()
    eventually(lambda: http.get("/webhooks").json()["webhooks"][0]["cursor"] == last)
    numbers = receiver.numbers
    assert sorted(set(numbers)) == [last - 2, last - 1, last]
    assert numbers == sorted(numbers)
    assert http.delete(f"/webhooks/{hook_id}").status_code == 204
    error(http.delete(f"/webhooks/{hook_id}"), 404)


def test_only_administrators(http: httpx.Client, registry: Registry) -> None:
    _, token = Keys(registry.catalog).create("all but", ["read", "push", "alias", "protect"])
    headers = {"authorization": f"Bearer {token}"}
    for method, path in (
        ("GET", "/webhooks"),
        ("POST", "/webhooks"),
        ("DELETE", "/webhooks/x"),
        ("POST", "/webhooks/x/enable"),
        ("POST", "/webhooks/x/test"),
        ("GET", "/webhooks/x/deliveries"),
    ):
        error(http.request(method, path, headers=headers), 403)


def test_what_is_asked_wrongly(http: httpx.Client) -> None:
    assert error(http.post("/webhooks", json={"url": "http://10.0.0.1"}), 400)["param"] == "url"
    assert error(http.post("/webhooks", json={"kinds": "*"}), 400)["param"] == "kinds"
    error(http.post("/webhooks/none/test"), 404)


@pytest.mark.parametrize("where", ["folder", "server"])
def test_the_commands(
    where: str,
    url: str,
    registry: Registry,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(NETWORKS_VARIABLE, "127.0.0.0/8")
    monkeypatch.setenv("HATSTAND_REGISTRY", url if where == "server" else str(registry.folder))
    hook_id, secret = run("webhooks", "add", receiver.url, "--kind", "version.*").split()
    assert secret.startswith("whs_")
    assert "fine" in run("webhooks", "list")
    assert secret not in run("webhooks", "list", "--json")
    assert "answered 200" in run("webhooks", "test", hook_id)
    assert receiver.received[0].event["kind"] == "webhook.test"
    receiver.status = 503
    assert "answered 503" in run("webhooks", "test", hook_id, code=1)
    receiver.status = 200
    registry.withdraw("sql@3")
    eventually(lambda: len(receiver.received) == 3)
    eventually(lambda: run_json("webhooks", "deliveries", hook_id))
    assert "200" in run("webhooks", "deliveries", hook_id)
    assert "goes on after event" in run("webhooks", "enable", hook_id)
    run("webhooks", "remove", hook_id)
    assert run_json("webhooks", "list") == []
    assert "no webhook" in run("webhooks", "remove", hook_id, code=1)
