"""A whole server on a tiny base, and real Chromium to look at it with."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from registry import Registry
from registry.bases import read_base
from registry.lock import Lock
from registry.referrers import add_referrer
from server.engine.engine import Engine
from server.serve import serving
from server.settings import EngineOptions, Settings
from tests.support.tiny import TinyAdapter, write_tiny_base
from tests.support.waiting import PATIENCE

ENGINE = EngineOptions(device="cpu", kv_memory=4 << 20, max_rank=8, max_slots=2)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# The smallest PNG that there is.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """No longer than a module: as long as it is there, this thread has a running event loop."""
    program = shutil.which("chromium")
    if program is None:
        if os.environ.get("HATSTAND_REQUIRE_TOOLS"):
            pytest.fail("chromium is missing: .ci/tools installs it")
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("bases") / "tiny-mistral")


@pytest.fixture(scope="module")
def registry(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """`sql` in three versions, `prod` moved from 1 to 2, and one `pirate`."""
    registry, record = Registry.open(tmp_path_factory.mktemp("registry")), read_base(base)
    for seed in range(3):
        folder = TinyAdapter("sql", seed=seed).write(base, tmp_path_factory.mktemp(f"sql-{seed}"))
        (folder / "loss.png").write_bytes(PIXEL)
        (folder / "recipe.yaml").write_text(f"epochs: {seed + 1}\n")
        config = json.loads((folder / "adapter_config.json").read_text())
        Lock(
            base=record,
            adapter_dtype="float32",
            rank=config["r"],
            target_modules=tuple(sorted(config["target_modules"])),
            metrics={"exact_match": 0.5 + seed / 10},
            data={"train.jsonl": f"sha256:{seed:064x}"},
            recipe={"epochs": seed + 1},
        ).write(folder)
        version = registry.push(folder, "sql", by="ann")
    kind = "application/vnd.hatstand.evaluation.v1+json"
    add_referrer(registry, version, kind, {"metrics": {"bleu": 41.5}}, by="ben")
    registry.push(
        TinyAdapter("pirate", seed=9).write(base, tmp_path_factory.mktemp("pirate")),
        "pirate",
        base=record,
    )
    registry.set_alias("sql", "prod", "sql@1", by="ann", why="first")
    registry.set_alias("sql", "prod", "sql@2", by="ann", why="better")
    return registry


@pytest.fixture(scope="module")
def url(base: Path, registry: Registry) -> Iterator[str]:
    settings = Settings(base=str(base), registry=registry.folder, port=0, engine=ENGINE)
    with serving(settings) as url:
        yield url


@pytest.fixture
def slow_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token takes 50 ms and more, so that an answer is seen while it is made."""
    step = Engine.step

    def slowed(*arguments: Any) -> bool:
        time.sleep(0.05)
        return step(*arguments)

    monkeypatch.setattr(Engine, "step", slowed)


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A fresh tab. What the console throws or logs as an error fails the test, and so does a file
    of its own that is missing; refusals by the API, which Chromium logs too, do not.
    """
    context = browser.new_context(base_url=url, viewport={"width": 1200, "height": 860})
    page, complaints = context.new_page(), list[str]()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: _is_complaint(line) and complaints.append(line.text))
    page.set_default_timeout(1000 * PATIENCE)
    expect.set_options(timeout=1000 * PATIENCE)
    yield page
    context.close()
    assert complaints == []


def _is_complaint(line: ConsoleMessage) -> bool:
    is_load = line.text.startswith("Failed to load resource")
    is_refusal = is_load and "/console/" not in line.location["url"]
    return line.type == "error" and not is_refusal


@pytest.fixture
def registry_alias_target(registry: Registry) -> Iterator[str]:
    """Where `sql@prod` points, and will again when the test is over."""
    target = registry.resolve("sql@prod").ref
    yield target
    registry.set_alias("sql", "prod", target)
