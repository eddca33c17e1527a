"""The commands of docs/registry.md, run as they are written."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from registry import BaseRecord, Hat
from tests.registry.making import make_adapter
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"```sh walkthrough\n(.*?)```", re.DOTALL)


def test_the_hat_is_one() -> None:
    block = re.search(r"```json\n(.*?)```", (ROOT / "docs" / "registry.md").read_text(), re.DOTALL)
    assert block is not None
    hat = Hat.from_parts(block[1].encode(), None)
    assert (hat.stop, hat.sampling.max_tokens) == (("\n",), 8)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_command_works_as_written(base: BaseRecord, home: Path, tmp_path: Path) -> None:
    make_adapter(tmp_path / "runs" / "sql", lock=base)
    make_adapter(tmp_path / "runs" / "sql-2", seed=1, lock=base)
    port = free_port()
    text = (ROOT / "docs" / "registry.md").read_text()
    script = "\n".join(_BLOCK.findall(text)).replace("8100", str(port))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(
        ["bash", "-euxo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "HATSTAND_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that its server can be ended with it
    )
    assert process.stdout is not None
    output = ""
    try:
        for line in process.stdout:
            output += line
            if line.startswith("+ registry keys list"):
                break
        output += process.stdout.readline() + process.stdout.readline() + process.stdout.readline()
        assert process.wait(timeout=PATIENCE) == 0, output
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.stdout.close()
        process.wait()
    assert "sql@2" in output
    assert "chief" in output
