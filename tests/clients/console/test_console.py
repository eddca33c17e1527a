"""The console as a person uses it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from clients import Hatstand
from registry import Registry
from registry.canary.rules import Rules


@pytest.mark.usefixtures("slow_engine")
def test_two_hats_answer_one_prompt(page: Page) -> None:
    page.goto("/")
    hats = page.get_by_role("combobox", name="Hat")
    expect(hats).to_have_count(2)
    assert hats.nth(0).input_value() == "tiny-mistral"
    hats.nth(1).select_option("sql@prod")
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("Longest answer").fill("12")
    page.get_by_label("Temperature").fill("0")
    prompt = page.get_by_label("Prompt", exact=True)
    prompt.fill("How many orders?")
    prompt.press("Enter")
    logs = page.get_by_role("log")
    for log, who in ((logs.nth(0), "tiny-mistral"), (logs.nth(1), "sql@2")):
        expect(log.locator(".asked")).to_have_text("How many orders?")
        expect(log.locator(".facts")).to_contain_text(who)
        expect(log.locator(".facts")).to_contain_text("tok/s")
        expect(log.locator(".facts")).to_contain_text("first token")
    assert logs.nth(0).locator("pre").inner_text() != logs.nth(1).locator("pre").inner_text()
    # A second turn knows the first: its prompt begins with tokens that are in the cache.
    prompt.fill("And open ones?")
    prompt.press("Enter")
    expect(logs.nth(1).locator(".facts").nth(1)).to_contain_text("prompt tokens known")


def test_hats_come_and_go_and_a_refusal_is_said(page: Page) -> None:
    page.goto("/#/chat")
    page.get_by_role("button", name="Add a hat").click()
    expect(page.get_by_role("log")).to_have_count(3)
    page.get_by_role("button", name=re.compile("^Remove")).first.click()
    expect(page.get_by_role("log")).to_have_count(2)
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("Longest answer").fill("100000")
    page.get_by_label("Prompt", exact=True).fill("x")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("alert").first).to_contain_text("100000")


@pytest.mark.usefixtures("slow_engine")
def test_an_answer_can_be_stopped(page: Page) -> None:
    page.goto("/#/chat")
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("Longest answer").fill("450")
    page.get_by_label("Prompt", exact=True).fill("x")
    page.get_by_role("button", name="Ask").click()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("alert").first).to_have_text("Stopped.")
    expect(page.get_by_role("button", name="Ask")).to_be_visible()


def test_registry_from_list_to_version(page: Page) -> None:
    page.goto("/#/registry")
    expect(page.get_by_role("link", name="pirate", exact=True)).to_be_visible()
    page.get_by_label("Name").fill("sq")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("link", name="pirate", exact=True)).to_have_count(0)
    page.get_by_role("link", name="sql", exact=True).click()
    expect(page.get_by_role("heading", name="sql")).to_be_visible()
    page.get_by_role("link", name="sql@3").click()
    expect(page.get_by_role("table", name="Metrics at training")).to_contain_text("exact_match0.7")
    expect(page.get_by_role("table", name="Said later")).to_contain_text("bleu 41.5")
    plot = page.get_by_role("img", name="Loss while sql@3 was trained")
    expect(plot).to_be_visible()
    assert plot.evaluate("image => image.naturalWidth") == 1
    page.get_by_text("Recipe", exact=True).click()
    expect(page.locator("pre.file")).to_have_text("epochs: 3\n")


def test_an_adapter_that_is_not_there_is_said_once(page: Page) -> None:
    page.goto("/#/registry/sgl")
    expect(page.get_by_role("alert")).to_have_text("no adapter 'sgl'; did you mean 'sql'?")


def test_registry_diff(page: Page) -> None:
    page.goto("/#/registry/sql")
    page.get_by_role("link", name="what changed").first.click()
    expect(page.get_by_role("table", name="recipe")).to_contain_text("epochs23")
    layers = page.get_by_role("table", name="Weight updates by layer").locator("tbody tr")
    expect(layers).to_have_count(2)


def test_rollback(page: Page, registry_alias_target: str) -> None:
    assert registry_alias_target == "sql@2"
    page.goto("/#/registry/sql")
    page.locator("summary", has_text="prod").click()
    expect(page.get_by_role("table", name="Where sql@prod pointed")).to_contain_text("better")
    page.get_by_label("Why").fill("slower")
    page.get_by_role("button", name="Roll prod back").click()
    expect(page.locator("summary", has_text="prod")).to_contain_text("sql@1")
    page.locator("summary", has_text="prod").click()
    expect(page.get_by_role("table", name="Where sql@prod pointed")).to_contain_text("slower")


def test_a_canary_is_seen_and_taken_back(page: Page, registry: Registry) -> None:
    registry.set_alias("sql", "beta", "sql@1")
    registry.canaries.start("sql", "beta", "3", Rules(steps=(25,)))
    page.goto("/#/registry/sql")
    beta = page.locator("summary", has_text="beta")
    expect(beta).to_contain_text("canary: 25% → sql@3")
    registry.canaries.abort("sql", "beta", why="not yet")
    page.reload()
    expect(beta).not_to_contain_text("canary")
    beta.click()
    history = page.get_by_role("table", name="Where sql@beta pointed")
    expect(history).to_contain_text("25%")
    expect(history).to_contain_text("not yet")


def test_machine_shows_who_sits_where(page: Page, url: str) -> None:
    page.goto("/#/machine")
    residents = page.get_by_role("table", name="Who is here")
    expect(residents).to_contain_text("tiny-mistral")
    with Hatstand(url) as client:
        client.chat("pirate", "Ahoy", max_tokens=4)
    expect(residents).to_contain_text("pirate@1")
    moves = page.get_by_role("table", name="Comings and goings")
    expect(moves).to_contain_text("put into a slot")
    expect(page.get_by_role("img", name=re.compile("^Tokens a second"))).to_be_visible()


def test_it_follows_the_systems_light_and_dark(page: Page) -> None:
    page.goto("/")
    seen = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        style = "getComputedStyle(document.documentElement)"
        seen[scheme] = page.evaluate(f"[{style}.backgroundColor, {style}.color]")
    assert seen["light"][0] != seen["dark"][0]
    assert seen["light"][1] != seen["dark"][1]


def test_pages_by_keyboard_alone(page: Page) -> None:
    page.goto("/#/registry")
    expect(page.get_by_role("link", name="pirate", exact=True)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Machine")).to_be_visible()
    expect(page.get_by_role("link", name="machine")).to_have_attribute("aria-current", "page")
