"""Which products a device is given, and what is said where cuda-core is missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

import bitsandbytes.functional as bnb
import pytest
import torch

from server.engine.config import EngineSettings
from server.engine.device_linears import device_linears
from server.errors import StartupError

ON_CUDA = EngineSettings(device="cuda", weights="nf4")


@pytest.fixture
def beside() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


@pytest.fixture
def _without_cuda_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "server.kernels.cuda.gemm", None)


def test_plain_torch_multiplies_where_ours_do_not_run(beside: Executor) -> None:
    assert device_linears(replace(ON_CUDA, device="cpu"), beside) is None
    assert device_linears(replace(ON_CUDA, dtype=torch.float32), beside) is None


@pytest.mark.usefixtures("_without_cuda_core")
def test_triton_stands_in_for_cuda_core(beside: Executor, caplog: pytest.LogCaptureFixture) -> None:
    triton = pytest.importorskip("server.kernels.triton.nf4", reason="triton is not installed")
    make = device_linears(ON_CUDA, beside)
    assert make is not None
    assert "hatstand[server,cuda]" in caplog.text
    dense = torch.randn(8, 64, dtype=torch.bfloat16)
    quantized = bnb.quantize_4bit(dense, blocksize=64, compress_statistics=True, quant_type="nf4")
    linear = make([quantized, quantized])
    assert isinstance(linear, triton.TritonNf4Linear)
    assert linear.out_features == 16


@pytest.mark.usefixtures("_without_cuda_core")
@pytest.mark.parametrize("gemm", ["fast", "batch-invariant"])
def test_a_mode_that_only_cuda_core_has_names_the_extra(gemm: str, beside: Executor) -> None:
    with pytest.raises(StartupError, match=rf"{gemm}.*hatstand\[server,cuda\]"):
        device_linears(replace(ON_CUDA, gemm=gemm), beside)  # type: ignore[arg-type]
