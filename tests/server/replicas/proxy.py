"""HAProxy before two replicas, as docs/haproxy.cfg has it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.server.replicas.nodes import Node
from tests.server.replicas.processes import ROOT, Process, process

CONFIG = ROOT / "docs" / "haproxy.cfg"


@contextmanager
def haproxy(
    bind: str, replicas: list[Process], log: Path, node: Node | None = None
) -> Iterator[Process]:
    """Ready to pass requests on; without HAProxy it skips (in CI: fails)."""
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        if os.environ.get("HATSTAND_REQUIRE_TOOLS"):
            pytest.fail("haproxy is not installed: run .ci/tools")
        pytest.skip("haproxy is not installed: run .ci/tools")
    one, two = (urlsplit(each.url).netloc for each in replicas)
    environ = {"HATSTAND_BIND": bind, "REPLICA_ONE": one, "REPLICA_TWO": two}
    command = [program, "-f", str(CONFIG)]
    if node is not None:
        command = node.command(command)
    with process(command, f"http://{bind}", log, environ) as proxy:
        proxy.wait_ready()
        yield proxy
