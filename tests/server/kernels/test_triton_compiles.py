"""Every Triton kernel compiles for devices that are not there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["80", "90"])
def test_every_kernel_compiles(capability: str) -> None:
    said = said_by("tests.support.triton_compile", capability)
    assert "decode_expand_kernel" in said
    assert "_dequantize_kernel" in said  # training's


def test_what_launches_need_is_compiled_once_and_nothing_is_launched(tmp_path: Path) -> None:
    said = said_by("tests.support.together", TRITON_CACHE_DIR=str(tmp_path))
    assert said.splitlines() == ["_rms_norm_kernel 2", "_argmax_kernel 1"]


def said_by(module: str, *arguments: str, **variables: str) -> str:
    """In a process of its own, because here the interpreter has taken the kernels' place."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
