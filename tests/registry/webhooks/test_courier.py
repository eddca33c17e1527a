from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from registry import BaseRecord, Registry
from registry.errors import InvalidRequest, NotFound
from registry.webhooks import courier as courier_module
from registry.webhooks.addresses import Reach
from registry.webhooks.courier import MOST_FAILURES, Courier
from registry.webhooks.deliveries import read_deliveries
from registry.webhooks.hook import Webhook, Webhooks
from registry.webhooks.outcome import Outcome
from tests.registry.making import make_adapter
from tests.registry.webhooks.receiver import HERE
from tests.support.waiting import PATIENCE

EVERY_DATABASE = True


class Post:
    """Notes what is brought, and answers as it is told."""

    def __init__(self) -> None:
        self.brought: list[tuple[str, str]] = []  # webhook's URL, event's number
        self.status = 200
        self.before: Callable[[], None] = lambda: None

    def send(self, hook: Webhook, body: bytes, headers: Mapping[str, str]) -> Outcome:
        assert body
        self.before()
        self.brought.append((hook.url, headers["x-hatstand-delivery"]))
        error = "" if self.status == 200 else f"answered {self.status}"
        return Outcome(self.status, error, 0.01)

    @property
    def numbers(self) -> list[int]:
        return [int(number) for _, number in self.brought]


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
def courier(registry: Registry, post: Post) -> Courier:
    return Courier(registry.catalog, post.send, first_pause=0.0)


@pytest.fixture
def webhooks(registry: Registry, base: BaseRecord, tmp_path: Path) -> Webhooks:
    for name in ("sql", "orders"):
        for seed in range(2):
            registry.push(make_adapter(tmp_path / name, seed=seed, lock=base), name)
    return Webhooks(registry.catalog, HERE)


def move(registry: Registry, times: int, name: str = "sql") -> list[int]:
    """Move an alias so many times; the events' numbers."""
    before = registry.newest_event()
    pointing = registry.aliases(name).get("prod")
    first = 0 if pointing is None else pointing.number
    for time in range(first, first + times):
        registry.set_alias(name, "prod", f"{name}@{1 + time % 2}")
    return [event.id for event in registry.events(before)]


def test_what_happens_is_brought_once_and_in_order(
    registry: Registry, webhooks: Webhooks, courier: Courier, post: Post
) -> None:
    webhooks.add("https://a.example/x")
    assert courier.deliver() == 0  # not what was before it
    events = move(registry, 5)
    assert courier.deliver() == 5
    assert post.numbers == events
    assert courier.deliver() == 0
    later = move(registry, 20)
    while courier.deliver():
        pass
    assert post.numbers == events + later


def test_webhooks_hear_what_they_asked_for(
    registry: Registry, webhooks: Webhooks, courier: Courier, post: Post
) -> None:
    webhooks.add("https://a.example", ["alias.*"], ["sql*"])
    webhooks.add("https://b.example", ["alias.protected"])
    registry.set_alias("orders", "prod", "orders@1")
    registry.protect_alias("sql", "prod")
    registry.set_alias("sql", "prod", "sql@1")
    registry.withdraw("sql@2")
    protected = registry.newest_event() - 2
    while courier.deliver():
        pass
    assert sorted(post.brought) == [
        ("https://a.example", str(protected)),
        ("https://a.example", str(protected + 1)),
        ("https://b.example", str(protected)),
    ]
    assert {hook.cursor for hook in webhooks.list()} == {registry.newest_event()}


def test_what_did_not_arrive_is_brought_again_before_what_follows(
    registry: Registry, webhooks: Webhooks, courier: Courier, post: Post
) -> None:
    hook = webhooks.add("https://a.example")
    first, second = move(registry, 2)
    post.status = 500
    assert [courier.deliver() for _ in range(3)] == [0, 0, 0]
    assert webhooks.get(hook.id).failures == 3
    post.status = 200
    assert courier.deliver() == 2
    assert post.numbers == [first, first, first, first, second]
    assert webhooks.get(hook.id).failures == 0
    log = read_deliveries(registry.catalog, hook.id)
    assert [(each.event, each.status) for each in log] == [
        (second, 200),
        (first, 200),
        (first, 500),
        (first, 500),
        (first, 500),
    ]


def test_pauses_grow(registry: Registry, webhooks: Webhooks, post: Post) -> None:
    hook = webhooks.add("https://a.example")
    patient = Courier(registry.catalog, post.send, first_pause=10.0)
    post.status = 503
    move(registry, 1)
    assert patient.deliver() == 0
    assert patient.deliver() == 0
    assert len(post.brought) == 1
    now = webhooks.get(hook.id)
    assert 8 < (now.next_at - read_deliveries(registry.catalog, hook.id)[0].at).total_seconds() < 12
    assert [patient._next_at(times) < patient._next_at(times + 1) for times in (1, 5)] == [True] * 2


def test_a_dead_one_is_given_up_and_may_be_tried_again(
    registry: Registry, webhooks: Webhooks, courier: Courier, post: Post
) -> None:
    dead = webhooks.add("https://dead.example/secret-path", patterns=["sql"])
    (event,) = move(registry, 1)
    post.status = 404
    for _ in range(MOST_FAILURES + 3):
        courier.deliver()
    assert post.numbers == [event] * MOST_FAILURES
    assert webhooks.get(dead.id).disabled_at is not None
    told = registry.events()[-1]
    assert (told.kind, told.adapter, told.data["webhook"]) == ("webhook.disabled", "", dead.id)
    assert "secret-path" not in str(told)
    post.status = 200
    assert courier.deliver() == 0
    webhooks.enable(dead.id)
    assert courier.deliver() == 1
    assert post.numbers[-1] == event


def test_couriers_of_several_processes_do_not_meet(
    registry: Registry, webhooks: Webhooks, courier: Courier, post: Post
) -> None:
    webhooks.add("https://a.example")
    events = move(registry, 3)
    other = Courier(registry.catalog, post.send)
    entered, may_go = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        assert may_go.wait(PATIENCE)

    post.before = wait
    busy = threading.Thread(target=courier.deliver)
    busy.start()
    assert entered.wait(PATIENCE)
    assert other.deliver() == 0
    may_go.set()
    busy.join()
    assert post.numbers == events


def test_one_that_died_while_it_brought_something_is_replaced(
    registry: Registry, webhooks: Webhooks, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhooks.add("https://a.example")
    events = move(registry, 2)
    monkeypatch.setattr(courier_module, "_CLAIM", 0.0)

    def die() -> None:
        if len(post.brought) == 1:
            raise KeyboardInterrupt

    post.before = die
    with pytest.raises(KeyboardInterrupt):
        Courier(registry.catalog, post.send).deliver()
    post.before = lambda: None
    assert Courier(registry.catalog, post.send).deliver() == 1
    assert post.numbers == events


def test_one_that_is_stopped_begins_nothing_more(
    registry: Registry, webhooks: Webhooks, courier: Courier, post: Post
) -> None:
    webhooks.add("https://a.example")
    events = move(registry, 3)
    post.before = courier.stop
    assert courier.deliver() == 1
    assert Courier(registry.catalog, post.send).deliver() == 2
    assert post.numbers == events


def test_a_slow_one_holds_up_no_other(
    registry: Registry, webhooks: Webhooks, courier: Courier, post: Post
) -> None:
    for name in ("a", "b"):
        webhooks.add(f"https://{name}.example")
    move(registry, 1)
    together = threading.Barrier(2)
    post.before = lambda: together.wait(PATIENCE) and None
    assert courier.deliver() == 2


def test_the_log_is_bounded(
    registry: Registry,
    webhooks: Webhooks,
    courier: Courier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("registry.webhooks.deliveries._MOST", 3)
    hook = webhooks.add("https://a.example")
    events = move(registry, 5)
    courier.deliver()
    log = read_deliveries(registry.catalog, hook.id)
    assert [each.event for each in log] == events[:1:-1]
    webhooks.remove(hook.id)
    with pytest.raises(NotFound):
        read_deliveries(registry.catalog, hook.id)
    assert webhooks.list() == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example",
        "https://",
        "https://user:word@a.example",
        "https://a.example/ x",
        "https://a.example:port",
        "http://10.0.0.1/",
        "http://[::1]:80/",
        "http://169.254.169.254/latest",
        "https://" + "a" * 2000,
    ],
)
def test_urls_that_are_refused(registry: Registry, url: str) -> None:
    with pytest.raises(InvalidRequest):
        Webhooks(registry.catalog, Reach()).add(url)


def test_globs_that_are_refused(webhooks: Webhooks) -> None:
    for globs in ([], ["a b"], [""], ["x" * 200]):
        with pytest.raises(InvalidRequest):
            webhooks.add("https://a.example", globs)
        with pytest.raises(InvalidRequest):
            webhooks.add("https://a.example", ["*"], globs)
