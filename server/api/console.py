"""The console: the page at `/`, and the files it is made of under `/console`."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

_IMPORT_MAP = re.compile(r'<script type="importmap">(.*?)</script>', re.DOTALL)


class Console:
    """Static files that lie in the `clients` package, which the server serves and never imports."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(str(files("clients"))) / "console"

    @property
    def routes(self) -> list[BaseRoute]:
        return [
            Route("/", self.page),
            Mount("/console", StaticFiles(directory=self._folder, check_dir=False)),
        ]

    async def page(self, _request: Request) -> Response:
        headers = {"content-security-policy": self._policy, "cache-control": "no-cache"}
        return HTMLResponse(self._html, headers=headers)

    @cached_property
    def _html(self) -> str:
        return (self._folder / "index.html").read_text(encoding="utf-8")

    @cached_property
    def _policy(self) -> str:
        """Nothing from elsewhere and no script in the page but its import map, by its hash."""
        inline = _IMPORT_MAP.search(self._html)
        assert inline is not None
        digest = base64.b64encode(hashlib.sha256(inline[1].encode()).digest()).decode()
        return (
            f"default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self'; "
            "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
