"""A server that wants keys: the console asks for one, and remembers it in the tab alone."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from registry import Registry
from server.api.keys import parse_keys
from server.serve import serving
from server.settings import ApiSettings, Settings

from .conftest import ENGINE


def test_the_console_asks_for_a_key(browser: Browser, base: Path, registry: Registry) -> None:
    keys = parse_keys(["secret-key-1"], where="test")
    settings = Settings(
        base=str(base),
        registry=registry.folder,
        port=0,
        engine=ENGINE,
        api=ApiSettings(keys=keys),
    )
    with serving(settings) as url:
        page = browser.new_page(base_url=url)
        page.goto("/")
        dialog = page.get_by_role("dialog", name="Keys")
        expect(dialog).to_contain_text("wants a key")
        dialog.get_by_label("Server").fill("secret-key-1")
        dialog.get_by_role("button", name="Use").click()
        expect(page.get_by_role("combobox", name="Hat").first).to_have_value("tiny-mistral")
        assert page.evaluate("Object.values(localStorage).length") == 0
        page.close()
