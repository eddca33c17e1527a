"""`python -m tests.clients.console.screenshots URL`: docs/images/console-*.png, taken again.

URL is where `hatstand demo` keeps serving: the embedded base with the adapters `sql` and `orders`.
Look at each picture before you commit it.
"""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

from clients import Hatstand

from .conftest import FLAGS

IMAGES = Path(__file__).parents[3] / "docs" / "images"
SIZE: ViewportSize = {"width": 1280, "height": 800}
QUESTION = "How many customers from Prague are older than 43?"
ORDER = "Please ship 88 amber necklaces to Chloe Fischer in Barcelona, latest Wednesday."


def take(url: str) -> None:
    """All pictures: light ones, and the machine in the dark, at work meanwhile."""
    program = shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        page = browser.new_page(base_url=url, viewport=SIZE, color_scheme="light")
        page.set_default_timeout(60_000)
        take_chat(page)
        take_registry(page)
        take_machine(page, url)
        browser.close()


def take_chat(page: Page) -> None:
    """One prompt to the bare base and to an adapter."""
    page.goto("/#/chat")
    for place, name in enumerate(("smollm2-135m", "sql")):
        page.get_by_role("combobox", name="Hat").nth(place).select_option(name)
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Longest answer").fill("64")
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("Prompt", exact=True).fill(QUESTION)
    page.get_by_label("Prompt", exact=True).press("Enter")
    expect(page.locator(".facts")).to_have_count(2)
    expect(page.get_by_role("button", name="Ask")).to_be_visible()
    keep(page, "chat")


def take_registry(page: Page) -> None:
    page.goto("/#/registry")
    expect(page.get_by_role("link", name="orders", exact=True)).to_be_visible()
    keep(page, "registry")
    page.goto("/#/registry/sql/1")
    expect(page.get_by_role("table", name="Metrics at training")).to_be_visible()
    expect(page.get_by_role("img", name="Loss while sql@1 was trained")).to_be_visible()
    page.set_viewport_size({"width": SIZE["width"], "height": 1310})  # down to the loss's curve
    keep(page, "version")
    page.set_viewport_size(SIZE)


def take_machine(page: Page, url: str) -> None:
    """While three at once ask the base and both adapters."""
    page.emulate_media(color_scheme="dark")
    page.goto("/#/machine")
    is_over = threading.Event()
    askers = [
        threading.Thread(target=ask_on, args=(url, model, is_over))
        for model in ("smollm2-135m", "sql", "orders")
    ]
    for asker in askers:
        asker.start()
    try:
        expect(page.get_by_role("table", name="Who is here")).to_contain_text("orders@1")
        page.wait_for_timeout(15_000)  # the curve wants some points
        keep(page, "machine")
    finally:
        is_over.set()
        for asker in askers:
            asker.join()


def ask_on(url: str, model: str, is_over: threading.Event) -> None:
    with Hatstand(url) as client:
        while not is_over.is_set():
            client.chat(model, ORDER if model == "orders" else QUESTION, max_tokens=64)


def keep(page: Page, name: str) -> None:
    page.screenshot(path=IMAGES / f"console-{name}.png")


if __name__ == "__main__":
    take(sys.argv[1])
