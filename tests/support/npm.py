"""Packages from npm, brought once and kept."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

KEPT = Path(__file__).parents[2] / ".cache" / "tools"


def installed(source: Path) -> Path:
    """A folder with `source`'s files and the packages of its lock file; skips the test without npm.

    `source` holds package.json and package-lock.json; the folder goes by its name.
    """
    npm = shutil.which("npm")
    if npm is None:
        if os.environ.get("HATSTAND_REQUIRE_TOOLS"):
            pytest.fail("npm is missing")
        pytest.skip("npm is not installed")
    kept = KEPT / source.name
    kept.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.is_file():
            shutil.copy(file, kept)
    lock = (source / "package-lock.json").read_bytes()
    mark = kept / "installed.json"
    if not mark.is_file() or mark.read_bytes() != lock:
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=kept, check=True, capture_output=True, timeout=200)
        mark.write_bytes(lock)
    return kept
