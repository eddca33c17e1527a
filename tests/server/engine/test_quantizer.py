from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from server.engine import quantizer

ROOT = Path(__file__).parents[3]


def test_a_server_starts_without_torchs_compiler() -> None:
    """It takes as long to import as all the rest. A base that is not in NF4 yet is quantized."""
    modules = "server.serve, server.api.app, server.engine.build, transformers"
    program = f"import sys, torch, {modules}; transformers.AutoTokenizer; "
    program += "from server.engine.quantizer import bitsandbytes; weight = torch.ones(64, 64); "
    program += "codes, state = bitsandbytes.quantize_4bit("
    program += "weight, quant_type='nf4', compress_statistics=True); "
    program += "same = torch.equal(bitsandbytes.dequantize_4bit(codes, state), weight); "
    program += "print(same, 'torch._dynamo' in sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_what_is_handed_to_the_compiler_is_compiled_once_it_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled: list[dict[str, object]] = []

    def compile_now(function: quantizer.Function, **options: object) -> quantizer.Function:
        compiled.append(options)
        return function

    monkeypatch.setattr(torch, "compile", compile_now)
    with quantizer._compiling_later():
        double = torch.compile(lambda x: 2 * x, dynamic=False)
        more = torch.compile(dynamic=True)(lambda x, *, by: x + by)
    assert torch.compile is compile_now
    assert compiled == []
    assert [double(2), double(3), more(2, by=5)] == [4, 6, 7]
    assert compiled == [{"dynamic": False}, {"dynamic": True}]
