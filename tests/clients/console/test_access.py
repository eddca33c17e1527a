"""The console for everybody: axe-core's rules on every page, and the keyboard alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.npm import installed

PAGES = {
    "chat": "#/chat",
    "registry": "#/registry",
    "adapter": "#/registry/sql",
    "version": "#/registry/sql/3",
    "diff": "#/registry/sql/3/diff/1",
    "machine": "#/machine",
}


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core's source, which runs in the page."""
    folder = installed(Path(__file__).parent / "axe")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(page: Page, axe: str, name: str, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto("/" + PAGES[name])
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.wait_for_load_state("networkidle")
    page.evaluate(axe)
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 860})
        found = page.evaluate("axe.run()")
        wrong = [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]]
        assert wrong == [], (width, wrong)
        assert found["passes"]
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wider) == 0  # nothing to scroll sideways but tables


def test_axe_would_find_something(page: Page, axe: str) -> None:
    page.goto("/#/chat")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.evaluate("document.body.append(document.createElement('input'))")
    page.evaluate(axe)
    found = page.evaluate("axe.run()")["violations"]
    assert "label" in {each["id"] for each in found}


def test_the_keyboard_alone(page: Page) -> None:
    """From the address bar to an answer, and on to another page."""
    page.goto("/#/registry")
    expect(page.get_by_role("link", name="sql", exact=True)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    reach(page, page.get_by_role("link", name="sql", exact=True))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="sql", exact=True)).to_be_visible()
    reach(page, page.get_by_role("link", name="chat"))
    page.keyboard.press("Enter")
    reach(page, page.get_by_label("Prompt", exact=True))
    page.keyboard.type("How many?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("log").first.locator(".facts")).to_contain_text("tok/s")


def reach(page: Page, wanted: Any) -> None:
    """Tab until it has the focus, which has to show."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if wanted.evaluate("element => element === document.activeElement"):
            outline = wanted.evaluate("element => getComputedStyle(element).outlineStyle")
            assert outline != "none"
            return
    raise AssertionError(f"{wanted} cannot be reached")
