"""The page at `/` and its files: all there, as they were reviewed, and nothing from elsewhere."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.anyio

FOLDER = Path(str(files("clients"))) / "console"
VENDORED = {
    "preact.mjs": "225d7a773766e6fb2cfcc45274fe41d2059f5782f3f2c4569aa5132a2d3a2902",
    "hooks.mjs": "86c7aecddbc493912b55a803b8f7709042e5d6aaa27f1ad85bcbb5cf34d18084",
    "htm.mjs": "ab33dd3f38059b9be4d5f5350128eefb2356639c4e0bbe9d9e8b3ba75847e9e4",
}
IMPORT = re.compile(r'^import .* from "([^"]+)";$', re.MULTILINE)


async def test_the_page_lets_no_script_in_but_its_own(client: httpx.AsyncClient) -> None:
    reply = await client.get("/")
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", reply.text)


async def test_every_import_is_served_as_a_script(client: httpx.AsyncClient) -> None:
    for script in FOLDER.rglob("*.js"):
        text = script.read_text()
        for name in IMPORT.findall(text):
            path = {"preact": "vendor/preact.mjs", "preact/hooks": "vendor/hooks.mjs"}.get(name)
            path = path or ("vendor/htm.mjs" if name == "htm" else name.removeprefix("./"))
            reply = await client.get(f"/console/{path}")
            assert reply.status_code == 200, (script.name, name)
            assert reply.headers["content-type"].startswith("text/javascript"), path


async def test_no_way_out_of_the_folder(client: httpx.AsyncClient) -> None:
    for path in ("../client.py", "%2e%2e/client.py", "vendor/../../cli.py", "//etc/passwd"):
        assert (await client.get(f"/console/{path}")).status_code == 404


@pytest.mark.parametrize("name", VENDORED)
def test_vendored_files_are_the_reviewed_ones(name: str) -> None:
    content = (FOLDER / "vendor" / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == VENDORED[name]
